import { codeFields, codeOf, LISTS, type List, nameOf, SPARE, VARIANTS, VERSIONS, type Wire } from './codes.js';
import { type Entry, FAULTS, type Sound } from './faults.js';
import type { ArgsSpec, Intent, Spec } from './intents.js';
import { keyOf, type Model, type ModelCommand, type Place } from './model.js';

/*
 * Turns a random intent into a concrete command for a host in the state of the model.
 */

export interface ConcreteCommand extends ModelCommand {
  readonly title: string;
  readonly body: Uint8Array;
}

/** What commands need to know about their target. */
export interface Addressee {
  readonly hostName: string;
  /** URL of the repository that the agent uses when a program names none. */
  readonly repository: string;
  /** Whether a verifier checks programs. */
  readonly verifies: boolean;
}

type Command = Exclude<Intent, { what: 'damage' }>;

/** Distance between neighbours, so that an add finds room. */
const SEQ_ID_STEP = 10;
const BEHIND_ALL = 900;

export function commandOf(intent: Command, model: Model, to: Addressee): ConcreteCommand {
  const places = model.places();
  const place = 'at' in intent ? places[intent.at % places.length]! : places[0]!;
  const now = model.desiredAt(place);
  const deploy = (wires: readonly Wire[], title: string) =>
    deployWith(model, to, new Map([[keyOf(place), wires]]), title);
  switch (intent.what) {
    case 'deploy':
      return deployOf(
        places.map((at, n) => ({ place: at, wires: chainOf(intent.chains[n] ?? [], at.list, to) })),
        to,
      );
    case 'chain':
      return deploy(chainOf(intent.chain, place.list, to), `chain at ${keyOf(place)}`);
    case 'change': {
      const which = now.length === 0 ? 0 : intent.which % now.length;
      const changed = now.map((wire, n) => (n === which ? changeOf(wire, intent, place.list, to) : wire));
      const title = `change ${intent.aspect} of ${now[which]?.name ?? 'nothing'} at ${keyOf(place)}`;
      return deploy(distinct(changed), title);
    }
    case 'reorder': {
      const order = intent.order.filter((n) => n <= now.length);
      const reordered = order.map((n, index) => ({ ...now[n - 1]!, seq_id: now[index]!.seq_id }));
      return deploy(withSlots(reordered, place.list), `reorder ${keyOf(place)}`);
    }
    case 'add': {
      const added = intent.programs.map((spec, n) => ({
        ...wireOf(spec, place.list, to),
        seq_id: intent.gap * SEQ_ID_STEP + 1 + n,
      }));
      return programsCommand('add', [{ place, wires: added }], to, `add at ${keyOf(place)}`);
    }
    case 'delete':
      return deleteOf(intent, place, model, to);
    case 'again': {
      const all = places.map((at) => ({ place: at, wires: model.desiredAt(at) }));
      return programsCommand(intent.verb, all, to, `${intent.verb} what is there`);
    }
    case 'fault':
      return faultyOf(intent, place, model, to);
  }
}

/** One list item per program, in the fields of the payload. The mark, the cell and the keys go into its maps. */
function wireOf(spec: Spec, list: List, to: Addressee): Wire {
  const wire = codeFields(list, { ...spec, slotless: false }, to.repository);
  return {
    ...wire,
    admin_status: spec.disabled ? 'disabled' : 'enabled',
    map_args: argsOf(spec.args, wire, list),
    ...carriedMaps(spec.carries),
  };
}

function carriedMaps(dice: number): Pick<Wire, 'carry_maps'> {
  const choices = [['mark_id', 'mark_seen', 'mark_paths'], ['mark_paths'], ['mark_packets', 'mark_id'], ['nothing']];
  const maps = choices[dice];
  return maps === undefined ? {} : { carry_maps: maps };
}

/** Keys that can never be a path, since a path has no zero between its markers. */
const FAR_KEYS = ['0x0100000000000001', '0x0100000000000002', '0x0100000000000003', '0x0100000000000004'] as const;

function argsOf({ id, cell, keys, asText }: ArgsSpec, wire: Wire, list: List): Wire['map_args'] {
  if (!codeOf(list, wire).leavesTrail) return [];
  const said = (value: number) => (asText ? String(value) : value);
  return [
    ...(id === 0 ? [] : [{ name: 'mark_id', args: [{ key: said(0), value: said(id) }] }]),
    ...(cell === 0 ? [] : [{ name: 'mark_packets', args: [{ key: said(0), value: said(cell) }] }]),
    ...(keys.length === 0
      ? []
      : [{ name: 'mark_paths', args: keys.map((n) => ({ key: FAR_KEYS[n]!, value: said(id + n) })) }]),
  ];
}

function chainOf(specs: readonly Spec[], list: List, to: Addressee): Wire[] {
  return specs.map((spec, n) => ({ ...wireOf(spec, list, to), seq_id: (n + 1) * SEQ_ID_STEP }));
}

type Change = Extract<Intent, { what: 'change' }>;

function changeOf(wire: Wire, { aspect, to: spec }: Change, list: List, to: Addressee): Wire {
  const otherVersion = VERSIONS.find((version) => version !== wire.version) ?? wire.version;
  switch (aspect) {
    case 'version':
      return { ...wire, version: otherVersion };
    case 'carried version':
      return { ...wire, version: otherVersion, ...carriedMaps(spec.carries) };
    case 'variant': {
      const variant = VARIANTS[spec.marker % VARIANTS.length]!;
      const marker = Number(wire.name.split('-').at(-1));
      const code = codeFields(list, { marker, version: wire.version, variant, slotless: false }, to.repository);
      const { artifact, ebpf_package_repo_url, object_file, entry_function_name, map_name } = code;
      const other = { ...wire, artifact, ebpf_package_repo_url, object_file, entry_function_name, map_name };
      return { ...other, map_args: argsOf(spec.args, other, list) };
    }
    case 'slot':
      // TC programs without a slot have other ways to set the order.
      if (list !== 'xdp_ingress') return wire;
      return { ...wire, map_name: wire.map_name === '' ? codeOf(list, wire).slot : '' };
    case 'args':
      return { ...wire, map_args: argsOf(spec.args, wire, list) };
    case 'status':
      return { ...wire, admin_status: wire.admin_status === 'enabled' ? 'disabled' : 'enabled' };
    case 'place':
      return { ...wire, seq_id: wire.seq_id + spec.marker };
  }
}

/** A seq_id that equals another one after a change is moved to the next free number. */
function distinct(wires: readonly Wire[]): Wire[] {
  const taken = new Set<number>();
  return wires.map((wire) => {
    let seqId = wire.seq_id;
    while (taken.has(seqId)) seqId += 1;
    taken.add(seqId);
    return { ...wire, seq_id: seqId };
  });
}

/** Gives each program back its slot, since another is the last one now. */
function withSlots(wires: readonly Wire[], list: List): Wire[] {
  return wires.map((wire) => (wire.map_name === '' ? { ...wire, map_name: codeOf(list, wire).slot } : wire));
}

type Chains = readonly { readonly place: Place; readonly wires: readonly Wire[] }[];

function deployOf(chains: Chains, to: Addressee): ConcreteCommand {
  return programsCommand('deploy', chains, to, 'deploy');
}

/** A deploy of the current state, with other programs at the given places. */
function deployWith(model: Model, to: Addressee, other: ReadonlyMap<string, readonly Wire[]>, title: string) {
  const chains = model.places().map((place) => ({ place, wires: other.get(keyOf(place)) ?? model.desiredAt(place) }));
  return programsCommand('deploy', chains, to, title);
}

function programsCommand(verb: 'deploy' | 'add', chains: Chains, to: Addressee, title: string): ConcreteCommand {
  const body = Buffer.from(JSON.stringify(payloadOf(chains, to)));
  return { verb, programs: chains, names: [], title, body };
}

/** One entry for each interface with at least one program. Empty lists are present, absent or null. */
function payloadOf(chains: readonly { place: Place; wires: readonly unknown[] }[], to: Addressee): Entry[] {
  const ifaces = [...new Set(chains.filter(({ wires }) => wires.length > 0).map(({ place }) => place.iface))];
  return ifaces.map((iface) => ({
    host_name: to.hostName,
    iface,
    ipv4_address: '198.18.0.1',
    bpf_programs: Object.fromEntries(
      LISTS.map((list) => [
        list,
        chains.find(({ place }) => place.iface === iface && place.list === list)?.wires ?? null,
      ]),
    ) as Entry['bpf_programs'],
  }));
}

type Delete = Extract<Intent, { what: 'delete' }>;

function deleteOf({ which, stranger }: Delete, place: Place, model: Model, to: Addressee): ConcreteCommand {
  const now = model.desiredAt(place);
  const present = which.flatMap((n) => now[n]?.name ?? []);
  const names = [...present, ...(stranger || present.length === 0 ? [nameOf(place.list, SPARE)] : [])];
  const body = Buffer.from(JSON.stringify(payloadOf([{ place, wires: names }], to)));
  const title = `delete ${names.join(', ')} at ${keyOf(place)}`;
  return { verb: 'delete', programs: [], names: [{ place, names }], title, body };
}

type Faulty = Extract<Intent, { what: 'fault' }>;

/** A command that is valid except for one fault. */
function faultyOf({ kind, which, to: spec }: Faulty, place: Place, model: Model, to: Addressee): ConcreteCommand {
  const plain = { ...spec, marker: SPARE, disabled: false, carries: 6 };
  const program = { ...wireOf(plain, place.list, to), seq_id: BEHIND_ALL };
  const now = model.desiredAt(place);
  // No program can follow one without a slot.
  const present = now.some(({ map_name: slot }) => slot === '') ? [] : now;
  const isAdd = which % 2 === 0 && present === now;
  const chains = model.places().map((at) => {
    if (keyOf(at) !== keyOf(place)) return { place: at, wires: isAdd ? [] : model.desiredAt(at).toReversed() };
    return { place: at, wires: isAdd ? [program] : [...present, program] };
  });
  const payload = payloadOf(chains, to);
  const entry = payload.findIndex(({ iface }) => iface === place.iface);
  const position = isAdd ? 0 : present.length;
  const sound: Sound = { payload, place, entry, position, program, verifies: to.verifies };
  const kinds = Object.keys(FAULTS);
  const names = [...kinds.slice(kind % kinds.length), ...kinds];
  for (const name of names) {
    const spoilt = FAULTS[name]!(sound);
    if (spoilt === undefined) continue;
    const verb = isAdd ? 'add' : 'deploy';
    return { verb, programs: [], names: [], title: `${verb} with ${name} at ${keyOf(place)}`, ...spoilt };
  }
  throw new Error('No fault can be made');
}
