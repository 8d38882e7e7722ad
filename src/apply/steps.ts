import type { Datapath } from '../datapath/datapath.js';
import { observedProbes } from '../domain/observed.js';
import { stagePin } from '../domain/pins.js';
import type { LoadStep, Step } from '../domain/step.js';
import type { Packages, Tools } from './tools.js';

/*
 * How each kind of step is done, and taken back.
 */

interface Executor<S extends Step> {
  /**
   * The steps that take it back, whether it was carried out, in part or not at all: a step that fails may have had its effect. Asked
   * before it runs.
   */
  wayBack(step: S, tools: Tools): readonly Step[] | Promise<readonly Step[]>;
  run(step: S, tools: Tools): Promise<unknown>;
}

const nothing = (): readonly Step[] => [];

/** One executor per kind of step: a kind without one does not compile. */
const EXECUTORS: { readonly [Op in Step['op']]: Executor<Extract<Step, { op: Op }>> } = {
  fetch: {
    wayBack: nothing,
    run: (step, { packages }) => packages.ensure(step.package),
  },

  load: {
    wayBack: ({ dir }) => [{ op: 'discard', dir }],
    async run(step, { datapath, packages }) {
      const { hook } = step.generation;
      const { entryFunction, slotMap } = step.source;
      const objectPath = await objectPathOf(step, packages);
      const { dir, share, fill, monitors = [], probes = 'attach', otherSide } = step;
      const asked = { hook, dir, objectPath, entryFunction, slotMap, share, fill, monitors, probes };
      await datapath.load({ ...asked, ...(otherSide !== undefined && { otherSide }) });
    },
  },

  'load-probes': {
    wayBack: ({ dir }) => [{ op: 'discard', dir }],
    async run({ dir, source, share, fill, monitors = [], treatment = 'attach' }, { datapath, packages }) {
      const objectPath = await packages.objectPath(source.package, source.objectFile);
      const { entryFunction } = source;
      await datapath.loadProbes({ dir, objectPath, entryFunction, share, fill, monitors, treatment });
    },
  },

  'move-probes': {
    wayBack: ({ from, to }) => [{ op: 'move-probes', from: to, to: from }],
    run: ({ from, to }, { datapath }) => datapath.moveProbes(from, to),
  },

  stage: {
    wayBack: ({ dir }) => [{ op: 'discard', dir }],
    run: ({ dir, like }, { datapath }) => datapath.stage(dir, like),
  },

  // The stage, on which all is pinned, has its own way back.
  capture: {
    wayBack: nothing,
    async run({ generation: { hook }, dir, slotMap, share, fill, monitors = [], claim }, { datapath }) {
      await datapath.capture({ hook, dir, slotMap, share, fill, monitors, claim });
    },
  },

  link: {
    // A slot that no packet reaches goes with its generation.
    wayBack: (step) => (step.live ? [{ ...step, from: step.to, to: step.from }] : []),
    run: (step, { datapath }) => datapath.setSlot(step.slot, step.to),
  },

  attach: {
    wayBack: (step) => [{ ...step, op: 'detach' }],
    run: (step, { datapath }) => datapath.attach(step.hook, step.program, step.link, step.place),
  },

  detach: {
    wayBack: (step) => (step.program === '' ? [] : [{ ...step, op: 'attach' }]),
    run: (step, { datapath }) => datapath.detach(step.hook, step.link),
  },

  retarget: {
    wayBack: (step) => [{ ...step, from: step.to, to: step.from }],
    run: (step, { datapath }) => datapath.retarget(step.hook, step.from, step.to),
  },

  'write-map': {
    async wayBack(step, { datapath }) {
      const { map, set, remove } = step;
      return [{ ...step, ...(await datapath.inverseOf(map, { set, remove })) }];
    },
    run: ({ map, set, remove }, { datapath }) => datapath.writeMap(map, { set, remove }),
  },

  publish: {
    wayBack: ({ path, former }) => [
      former === undefined ? { op: 'unpublish', path } : { op: 'publish', pin: former, path },
    ],
    run: (step, { datapath }) => datapath.publish(step.pin, step.path),
  },

  unpublish: {
    wayBack: ({ path, pin }) => (pin === undefined ? [] : [{ op: 'publish', pin, path }]),
    run: (step, { datapath }) => datapath.unpublish(step.path),
  },

  grace: {
    wayBack: nothing,
    run: (_step, { datapath }) => datapath.grace(),
  },

  discard: {
    wayBack: nothing,
    run: (step, { datapath }) => datapath.discard(step.dir),
  },

  repin: {
    wayBack: nothing,
    run: (step, { datapath }) => datapath.repin(step.dir, step.programId, step.maps),
  },

  prove: {
    wayBack: nothing,
    run: (step, { datapath }) => datapath.proveGone(step),
  },

  'check-companion': {
    wayBack: nothing,
    run: (step, { companions }) => companions.check(step.launch),
  },

  'start-companion': {
    wayBack({ launch, dir, restarts, loads }) {
      const stop = { op: 'stop-companion', launch, dir, restarts } as const;
      // The last of them goes first.
      return loads === undefined
        ? [stop]
        : [
            { op: 'tidy', claim: loads },
            { ...stop, loads: true },
          ];
    },
    async run({ launch, dir, restarts, loads }, { datapath, companions }) {
      if (loads === undefined) return companions.start(launch, await mapIdsOf(dir, datapath), restarts);
      const isFilled = async () => (await datapath.staged(dir)) !== null;
      await companions.start(launch, [], restarts, { dir, slot: stagePin(dir), isFilled });
    },
  },

  'stop-companion': {
    // One that has loaded its program is stopped when there is no way back any more.
    wayBack: ({ loads, ...step }) => (loads === true ? [] : [{ ...step, op: 'start-companion' }]),
    run: ({ launch, dir, loads }, { companions }) => companions.stop(launch, loads && dir),
  },

  tidy: {
    wayBack: nothing,
    async run({ claim: { folder, except } }, { datapath }) {
      const { publicMaps } = await datapath.observe();
      const claimed = [...publicMaps.keys()].filter((path) => path.startsWith(`${folder}/`) && !except.includes(path));
      for (const path of claimed) await datapath.unpublish(path);
    },
  },

  'update-companion': {
    wayBack: (step) => [{ ...step, from: step.to, to: step.from }],
    run: ({ from, to, loaded }, { companions }) => companions.update(from, to, loaded),
  },
};

function executorOf(step: Step): Executor<Step> {
  return EXECUTORS[step.op] as Executor<Step>;
}

/** The steps that take a step back, however far it comes; to be asked before it runs. */
export async function wayBack(step: Step, tools: Tools): Promise<readonly Step[]> {
  return executorOf(step).wayBack(step, tools);
}

/** Carries one step out. @throws whatever it fails with */
export async function run(step: Step, tools: Tools): Promise<void> {
  await executorOf(step).run(step, tools);
}

async function objectPathOf(step: LoadStep, packages: Packages): Promise<string> {
  const { source } = step;
  return source.kind === 'builtin' ? source.objectPath : packages.objectPath(source.package, source.objectFile);
}

/** Kernel ids of a generation's data maps: only the kernel knows them. */
async function mapIdsOf(dir: string, datapath: Datapath): Promise<readonly number[]> {
  const observed = await datapath.observe();
  const generations = [...observed.hooks.flatMap((hook) => hook.generations), ...observedProbes(observed)];
  const generation = generations.find((other) => other.dir === dir);
  return generation?.maps.map(({ id }) => id) ?? [];
}
