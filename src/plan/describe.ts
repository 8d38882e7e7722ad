import { hookKey } from '../domain/hook.js';
import type { Step } from '../domain/step.js';

/** A step in words, for plans that people read, for logs and for acknowledgements. */
export function describeStep(step: Step): string {
  switch (step.op) {
    case 'fetch':
      return `fetch package ${step.package.name} ${step.package.version} (${step.package.artifact})`;
    case 'load': {
      const { name, version, hook } = step.generation;
      const kept = step.share.length === 0 ? '' : ', keeping its data maps';
      return `load ${name} ${version} for ${hookKey(hook)}${kept}`;
    }
    case 'link':
      return step.to === null
        ? `end the chain at ${owner(step.slot)}`
        : `link ${owner(step.slot)} to ${owner(step.to)}`;
    case 'attach':
      return `attach ${owner(step.program)} to ${hookKey(step.hook)}`;
    case 'detach':
      return `detach ${step.program === '' ? 'a dead link' : owner(step.program)} from ${hookKey(step.hook)}`;
    case 'retarget':
      return `replace ${owner(step.from.program)} by ${owner(step.to.program)} at ${hookKey(step.hook)}`;
    case 'write-map':
      return `write ${step.set.length} and delete ${step.remove.length} entries of ${step.map}`;
    case 'publish':
      return `name ${step.path}`;
    case 'unpublish':
      return `remove the name ${step.path}`;
    case 'grace':
      return 'wait until no packet is inside what was replaced';
    case 'discard':
      return `unload ${owner(`${step.dir}/prog`)}`;
  }
}

/** `<bpffs>/progs/<iface>/<name>/<version>/<generation>/<pin>` in a person's words. */
function owner(pin: string): string {
  const [name, version, generation] = pin.split('/').slice(-4);
  return `${name} ${version} #${generation?.split('-').at(-1)}`;
}
