import * as z from 'zod';
import { ATTACH_POINTS } from '../domain/attach-points/registry.js';
import { list, optionalList, optionalText, programName, text } from '../domain/forms.js';
import { ATTACH_POINT_NAMES, type AttachPointName } from '../domain/hook.js';
import { RESERVED_NAMES } from '../domain/pins.js';
import { probePayload, programPayload } from '../domain/program.js';
import {
  checkChain,
  checkCompanion,
  checked,
  checkHost,
  checkInterfaces,
  checkMapArgs,
  checkMonitorMaps,
  checkNames,
  checkObject,
  checkProbe,
  checkProbeNames,
  checkProbes,
  checkTargets,
} from './checks.js';

/*
 * The payloads of the three commands. They are l3afd's, with every unknown field rejected. The fields of a program are
 * in domain/program.ts, and the rules that span several fields in checks.ts.
 */

/** A host can have many. The reply of `config` lists all of them, and can be deployed again. */
const MAX_INTERFACES = 4096;

/** For the same reason: `config` has all probes of the host in one list. */
const MAX_PROBES = 4096;

/**
 * The kernel stops after 33 tail calls (include/linux/bpf.h, MAX_TAIL_CALL_CNT). The root's call of the first program
 * is the first of them, so the 33rd program is the last one reached.
 */
const MAX_CHAIN = 33;

/**
 * At most 15 bytes, no blank, "/" or ":", not "." or ".." (net/core/dev.c, dev_valid_name). Stricter than the kernel:
 * ASCII only. Names that collide with the layout of bpffs are reserved.
 */
const IFACE_NAME = `(?!(?:\\.{1,2}|${RESERVED_NAMES.join('|')})$)[!-.0-9;-~]{1,15}`;

/** The path of a control group from the root of the hierarchy, without "." and "..". */
const CGROUP_PATH = '/|(?:/(?!\\.{1,2}(?:/|$))[!-.0-~]{1,255}){1,32}';

const target = text(
  `${IFACE_NAME}|${CGROUP_PATH}`,
  'an interface name of 1 to 15 printable ASCII characters without blanks, "/" and ":", ' +
    `other than ${RESERVED_NAMES.map((name) => `"${name}"`).join(', ')}, or the path of a control group`,
);

const ipv4Address = optionalText(
  '(?:(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)(?:\\.(?!$)|$)){4}',
  'an IPv4 address in dotted decimal',
);

/** A program in the list of a hook. */
export const programSchema = checked(programPayload, checkCompanion, checkObject, checkMapArgs, checkMonitorMaps).meta({
  id: 'Program',
  description: 'One program of a chain',
});

const probeSchema = checked(probePayload, checkProbe, checkCompanion, checkMapArgs, checkMonitorMaps).meta({
  id: 'Probe',
  description: 'The probes of one package',
});

const ENTRY_EXPECTED = 'an object {host_name, iface, bpf_programs}';

type Lists<T extends z.ZodType> = { readonly [D in AttachPointName as (typeof ATTACH_POINTS)[D]['payloadList']]: T };

/** One entry per interface. `listAt` makes the list of an attach point, `probes` is the list of probes. */
function interfaces<T extends z.ZodType, P extends z.ZodType>(listAt: (attachPoint: AttachPointName) => T, probes: P) {
  const lists = Object.fromEntries(
    ATTACH_POINT_NAMES.map((attachPoint) => [ATTACH_POINTS[attachPoint].payloadList, listAt(attachPoint)]),
  ) as Lists<T>;
  const entry = z.strictObject(
    {
      host_name: text('.+', "the host's name").describe('Must be the name of the host to which the command is sent'),
      iface: target.describe(
        'Where the chains are attached: an interface by its name, or a control group by its path, which begins with "/"',
      ),
      ipv4_address: ipv4Address.describe("The interface's address, which becomes a label of its metrics"),
      bpf_programs: z
        .strictObject(
          {
            ...lists,
            probes: probes.describe(
              'Programs that are not attached to an interface: those at tracepoints, and at functions of the kernel or of programs',
            ),
          },
          { error: `an object {${[...Object.keys(lists), 'probes'].join(', ')}}` },
        )
        .nullish(),
    },
    { error: ENTRY_EXPECTED },
  );
  return list(entry, MAX_INTERFACES, `a list of at most ${MAX_INTERFACES} interfaces, each ${ENTRY_EXPECTED}`);
}

/** The payload of `deploy` and `add`. */
export const programsPayload = checked(
  interfaces(
    (attachPoint) =>
      checked(optionalList(programSchema, MAX_CHAIN, 'programs'), checkChain(ATTACH_POINTS[attachPoint].programType)),
    optionalList(probeSchema, MAX_PROBES, 'programs'),
  ),
  checkInterfaces,
  checkTargets,
  checkProbes,
);

/** The payload of `delete`. */
export const namesPayload = checked(
  interfaces(
    () => checked(optionalList(programName, MAX_CHAIN, 'names of programs'), checkNames),
    optionalList(programName, MAX_PROBES, 'names of programs'),
  ),
  checkInterfaces,
  checkTargets,
  checkProbeNames,
);

/** A payload for one host. */
export function payloadFor<T extends z.ZodType>(hostName: string, payload: T): T {
  return checked(payload, checkHost(hostName));
}

export type ProgramsPayload = z.infer<typeof programsPayload>;
export type NamesPayload = z.infer<typeof namesPayload>;
