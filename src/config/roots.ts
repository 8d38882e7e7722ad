import * as value from './values.js';

/*
 * Where root programs come from, with the names of l3afd's sections [xdp-root] and [tc-root]. The defaults are l3afd's,
 * so that its packages need only the name of their artifact.
 */

const name = { schema: value.segment, placeholder: 'name' } as const;
const file = { schema: value.fileName, placeholder: 'file' } as const;
const symbol = { schema: value.symbol, placeholder: 'name' } as const;
const artifact = { schema: value.artifact.optional(), placeholder: 'file', absent: 'built in' } as const;

/**
 * Rows of the table of settings. A setting of a root without its artifact is rejected, because it would have no effect.
 */
export const ROOT_SETTINGS = {
  xdp_root_artifact: {
    ...artifact,
    description: 'artifact of a package whose program replaces the built-in root of XDP chains; fetched from repo_url',
    example: 'l3af_xdp_root.tar.gz',
  },
  xdp_root_package_name: {
    ...name,
    description: 'name of the package of the XDP root',
    default: 'xdp-root',
  },
  xdp_root_version: {
    ...name,
    description: 'version of the package of the XDP root',
    default: 'latest',
  },
  xdp_root_object_file: {
    ...file,
    description: 'object file of the XDP root',
    default: 'xdp_root.bpf.o',
  },
  xdp_root_entry_function_name: {
    ...symbol,
    description: 'function of the XDP root',
    default: 'xdp_root',
  },
  xdp_root_ingress_map_name: {
    ...symbol,
    description: 'slot of the XDP root: a PROG_ARRAY with one entry',
    default: 'xdp_root_array',
  },
  tc_root_artifact: {
    ...artifact,
    description: 'artifact of a package whose programs replace the built-in roots of TC chains; fetched from repo_url',
    example: 'l3af_tc_root.tar.gz',
  },
  tc_root_package_name: {
    ...name,
    description: 'name of the package of the TC roots',
    default: 'tc-root',
  },
  tc_root_version: {
    ...name,
    description: 'version of the package of the TC roots',
    default: 'latest',
  },
  tc_root_ingress_object_file: {
    ...file,
    description: 'object file of the TC ingress root',
    default: 'tc_root_ingress.bpf.o',
  },
  tc_root_egress_object_file: {
    ...file,
    description: 'object file of the TC egress root',
    default: 'tc_root_egress.bpf.o',
  },
  tc_root_ingress_entry_function_name: {
    ...symbol,
    description: 'function of the TC ingress root',
    default: 'tc_ingress_root',
  },
  tc_root_egress_entry_function_name: {
    ...symbol,
    description: 'function of the TC egress root',
    default: 'tc_egress_root',
  },
  tc_root_ingress_map_name: {
    ...symbol,
    description: 'slot of the TC ingress root',
    default: 'tc_ingress_root_array',
  },
  tc_root_egress_map_name: {
    ...symbol,
    description: 'slot of the TC egress root',
    default: 'tc_egress_root_array',
  },
} as const;

/** Contradictions among the settings of roots, as sentences. @param isGiven whether a setting is set */
export function rootContradictions(isGiven: (setting: string) => boolean): string[] {
  return ['xdp_root_', 'tc_root_'].flatMap((prefix) => {
    const artifactSetting = `${prefix}artifact`;
    if (isGiven(artifactSetting)) {
      if (isGiven('repo_url')) return [];
      return [`${artifactSetting} is set but repo_url is not; the package is fetched from there.`];
    }
    return Object.keys(ROOT_SETTINGS)
      .filter((setting) => setting.startsWith(prefix) && isGiven(setting))
      .map((setting) => `${setting} is set but ${artifactSetting} is not; without it the built-in root is used.`);
  });
}
