import type { Datapath } from '../datapath/datapath.js';
import { observedProbes } from '../domain/observed.js';
import { handoverPin } from '../domain/pins.js';
import { chainsInWords, type OtherPrograms, ofOtherKinds, programsInWords, variantsOf } from '../domain/probe.js';
import type { LoadStep, Step } from '../steps/step.js';
import type { Packages, Tools } from './tools.js';

/** Takes what comes up that people should know, as a sentence. */
export type Tell = (note: string) => void;

/**
 * How each kind of step is carried out. A missing kind does not compile. How a step is rolled back is one of its
 * traits.
 */
const RUN: {
  readonly [Op in Step['op']]: (step: Extract<Step, { op: Op }>, tools: Tools, tell: Tell) => Promise<unknown>;
} = {
  fetch: (step, { packages }) => packages.ensure(step.package),

  async load(step, { datapath, packages }, tell) {
    const { hook } = step.ref;
    const { entryFunction, slotMap } = step.source;
    const objectPath = await objectPathOf(step, packages);
    const { dir, share, fill, monitors = [], probes = 'attach', otherSides = [], like = null } = step;
    const asked = { hook, dir, objectPath, entryFunction, slotMap, share, fill, monitors, probes, otherSides, like };
    remark(step.ref.name, await datapath.load(asked), tell);
  },

  async 'load-probes'(step, { datapath, packages }, tell) {
    const { dir, source, share, fill, monitors = [], treatment = 'attach' } = step;
    const objectPath = await packages.objectPath(source.package, source.objectFile);
    const { entryFunction } = source;
    const loaded = await datapath.loadProbes({ dir, objectPath, entryFunction, share, fill, monitors, treatment });
    remark(step.probes.name, loaded, tell);
  },

  'move-probes': ({ from, to }, { datapath }) => datapath.moveProbes(from, to),

  'make-handover': ({ dir, like }, { datapath }) => datapath.makeHandover(dir, like),

  async capture({ ref: { hook }, dir, slotMap, share, fill, monitors = [], claim }, { datapath }) {
    await datapath.capture({ hook, dir, slotMap, share, fill, monitors, claim });
  },

  link: (step, { datapath }) => datapath.setSlot(step.slot, step.to),

  attach: (step, { datapath }, tell) => datapath.attach(step.hook, step.program, step.link, step.place, tell),

  detach: (step, { datapath }) => datapath.detach(step.hook, step.link),

  retarget: (step, { datapath }) => datapath.retarget(step.hook, step.from, step.to),

  'write-map': ({ map, set, remove, make = [] }, { datapath }) => datapath.writeMap(map, { set, remove, make }),

  publish: (step, { datapath }) => datapath.publish(step.pin, step.path),

  unpublish: (step, { datapath }) => datapath.unpublish(step.path),

  grace: (_step, { datapath }) => datapath.grace(),

  discard: (step, { datapath }) => datapath.discard(step.dir),

  repin: (step, { datapath }) => datapath.repin(step.dir, step.programId, step.maps),

  prove: (step, { datapath }) => datapath.proveGone(step),

  'check-companion': (step, { companions }) => companions.check(step.launch),

  async 'start-companion'({ launch, dir, restarts, loads }, { datapath, companions }) {
    if (loads === undefined) return companions.start(launch, await mapIdsOf(dir, datapath), restarts);
    const isFilled = async () => (await datapath.handedOver(dir)) !== null;
    await companions.start(launch, [], restarts, { dir, slot: handoverPin(dir), isFilled });
  },

  'stop-companion': ({ launch, dir, loads }, { companions }) => companions.stop(launch, loads && dir),

  async tidy({ claim: { folder, except } }, { datapath }) {
    const { publicMaps } = await datapath.observe();
    const claimed = [...publicMaps.keys()].filter((path) => path.startsWith(`${folder}/`) && !except.includes(path));
    for (const path of claimed) await datapath.unpublish(path);
  },

  'update-companion': ({ from, to, loaded }, { companions }) => companions.update(from, to, loaded),
};

/** Carries out one step. @throws the error with which the step fails */
export async function run(step: Step, tools: Tools, tell: Tell = () => {}): Promise<void> {
  const runOne = RUN[step.op] as (step: Step, tools: Tools, tell: Tell) => Promise<unknown>;
  await runOne(step, tools, tell);
}

/** Tells what an object has that is left out, or that does one thing twice. */
function remark(name: string, { probes, others }: OtherPrograms, tell: Tell): void {
  const left = ofOtherKinds(others);
  if (left.length > 0)
    tell(`${name}: the agent does not attach ${programsInWords(left)} of its object; a companion can`);
  const ofAChain = chainsInWords(others);
  if (ofAChain !== '') tell(`${name}: what is no probe of its object is left out here. ${ofAChain}`);
  for (const variants of variantsOf(probes))
    tell(
      `${name}: ${programsInWords(variants)} see the same event, each once; if they are variants of one probe, choose one with entry_function_name, or leave the others out with SEC("?…")`,
    );
}

async function objectPathOf(step: LoadStep, packages: Packages): Promise<string> {
  const { source } = step;
  return source.kind === 'builtin' ? source.objectPath : packages.objectPath(source.package, source.objectFile);
}

/** Kernel ids of a loaded program's data maps. Only the kernel knows them. */
async function mapIdsOf(dir: string, datapath: Datapath): Promise<readonly number[]> {
  const observed = await datapath.observe();
  const loads = [...observed.hooks.flatMap((hook) => hook.loadedPrograms), ...observedProbes(observed)];
  const loaded = loads.find((other) => other.dir === dir);
  return loaded?.maps.map(({ id }) => id) ?? [];
}
