import type { CompanionLaunch } from '../domain/companion.js';
import { hookKey, isTracing } from '../domain/hook.js';
import type { LinkPosition, Step, WriteMapStep } from './step.js';

/** Describes a step for plans, logs and acknowledgements. */
export function describeStep(step: Step): string {
  switch (step.op) {
    case 'fetch':
      return `fetch package ${step.package.name} ${step.package.version} (${step.package.artifact})`;
    case 'load': {
      const { name, version, hook } = step.ref;
      const kept = step.share.length === 0 ? '' : ', keeping its data maps';
      return `load ${name} ${version} for ${hookKey(hook)}${kept}`;
    }
    case 'load-probes': {
      const { name, version } = step.probes;
      const kept = step.share.length === 0 ? '' : ', keeping its data maps';
      return `load the probes of ${name} ${version} and attach them${kept}`;
    }
    case 'move-probes':
      return `move the attached probes of ${owner(`${step.from}/prog`)} to another load`;
    case 'make-handover':
      return `make a slot for the companion of ${owner(`${step.dir}/prog`)} to put its program into`;
    case 'capture':
      return `take over ${owner(`${step.dir}/prog`)} from its companion`;
    case 'link':
      return step.to === null
        ? `end the chain at ${owner(step.slot)}`
        : `link ${owner(step.slot)} to ${owner(step.to)}`;
    case 'attach':
      return `attach ${owner(step.program)} to ${hookKey(step.hook)}${where(step.place)}`;
    case 'detach':
      return `detach ${step.program === '' ? 'a dead link' : owner(step.program)} from ${hookKey(step.hook)}`;
    case 'retarget':
      return `replace ${owner(step.from.program)} by ${owner(step.to.program)} at ${hookKey(step.hook)}`;
    case 'write-map':
      return `${entries(step)} of ${step.map.split('/').at(-1)} in ${owner(step.map.replace('/maps/', '/'))}`;
    case 'publish':
      return `set the name ${step.path}`;
    case 'unpublish':
      return `remove the name ${step.path}`;
    case 'grace':
      return 'wait until no packet is inside what was replaced';
    case 'repin': {
      const what = [...(step.program ? ['the program'] : []), ...step.maps.map((id) => `map ${id}`)].join(' and ');
      return `pin ${what} of ${owner(`${step.dir}/prog`)} again, because it was unpinned`;
    }
    case 'prove': {
      const { programs, maps, links } = step;
      const kinds = [count(programs, 'program'), count(maps, 'map'), count(links, 'link')].flat();
      return `see ${kinds.join(', ')} gone from the kernel`;
    }
    case 'discard':
      return `unload ${owner(`${step.dir}/prog`)}`;
    case 'check-companion':
      return `check the commands of ${companion(step.launch)}`;
    case 'start-companion':
      return `start ${companion(step.launch)}${step.loads !== undefined ? ', which loads the program' : ''}`;
    case 'stop-companion':
      return `stop ${companion(step.launch)}`;
    case 'tidy':
      return `remove the names that companions made in ${step.claim.folder}`;
    case 'update-companion':
      return `update ${companion(step.to)}`;
  }
}

function companion({ hook, package: { name, version } }: CompanionLaunch): string {
  return `the companion of ${name} ${version}${isTracing(hook) ? '' : ` at ${hookKey(hook)}`}`;
}

/** In a link's pin, the third last part is the name and the second last is the version. */
function where(place: LinkPosition | null): string {
  if (place === null) return '';
  const [name, version] = place.link.split('/').slice(-3);
  return ` right ${place.side} ${name} ${version}`;
}

/** `3 maps`; empty for no elements. */
function count({ length }: readonly unknown[], what: string): string[] {
  return length === 0 ? [] : [`${length} ${what}${length === 1 ? '' : 's'}`];
}

function entries({ set, remove, make = [] }: WriteMapStep): string {
  const changes = [
    ['write', set.length],
    ['make', make.length],
    ['delete', remove.length],
  ] as const;
  return changes
    .filter(([, count]) => count > 0)
    .map(([verb, count]) => `${verb} ${count} ${count === 1 ? 'entry' : 'entries'}`)
    .join(' and ');
}

/** Describes `<bpffs>/progs/<iface>/<name>/<version>/<load>/<pin>` for people. */
function owner(pin: string): string {
  const [name, version, load] = pin.split('/').slice(-4);
  return `${name} ${version} #${load?.split('-').at(-1)}`;
}
