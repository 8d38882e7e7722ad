import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, it } from 'node:test';
import { PROJECT_ROOT } from './support/project.js';

/*
 * Checks the rules of the layout (src/README.md): which part imports which, which modules may import an outside
 * package, and which parts are pure. Modules are named by their path below src without `.ts`: `bus/inbox`, `config`.
 */

/** What a stage may import besides its own folder: folders, or single modules of a folder. */
const STAGES: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  deadline: [],
  retry: [],
  domain: ['errors'],
  steps: ['errors', 'domain'],
  config: ['errors'],
  messages: ['errors', 'domain'],
  plan: ['errors', 'domain', 'steps'],
  apply: ['errors', 'domain', 'steps', 'datapath/datapath'],
  datapath: ['errors', 'deadline', 'retry', 'domain', 'steps/step'],
  packages: ['errors', 'deadline', 'retry', 'domain'],
  companions: ['errors', 'retry', 'domain'],
  store: ['errors', 'domain'],
  bus: ['errors', 'deadline', 'retry', 'domain', 'messages'],
  telemetry: ['errors', 'domain'],
  client: [
    'errors',
    'deadline',
    'retry',
    'domain',
    'messages',
    'bus/absence',
    'bus/access',
    'bus/connection',
    'bus/message',
    'bus/nats-errors',
    'bus/objects',
    'bus/pull',
    'bus/refusals',
  ],
  ctl: ['errors', 'domain', 'messages', 'client', 'packages'],
};

/** Imports that start a process or use a socket. `execFileSync`, for a FIFO, does not count. */
const STARTS_OR_LISTENS =
  /\{[^}]*\b(spawn|spawnSync|fork|exec|createServer|connect|createSocket)\b[^}]*\} from 'node:|\/package-server\.js'/;

/**
 * The parts that connect the stages. They may import all stages, and one another as listed. No stage may import them.
 */
const WIRING: Readonly<Record<string, readonly string[]>> = {
  reconcile: [],
  commands: ['reconcile'],
  queries: ['reconcile'],
  daemon: ['reconcile', 'commands', 'queries'],
  main: ['daemon'],
};

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ...STAGES,
  ...Object.fromEntries(Object.entries(WIRING).map(([part, others]) => [part, [...Object.keys(STAGES), ...others]])),
};

/** The only modules that may import each outside package. */
const DOORS: Readonly<Record<string, readonly RegExp[]>> = {
  nats: [/^bus\//, /^client\//],
  koffi: [/^datapath\/libbpf\//, /^store\/flock$/],
  'p-queue': [/^apply\//],
  pino: [/^telemetry\//],
  'prom-client': [/^telemetry\//],
  zod: [/^messages\//, /^store\//, /^config(\/|$)/, /^domain\/(fields|forms|program)$/],
  tar: [/^packages\//],
  yauzl: [/^packages\//],
  yaml: [/^config(\/|$)/],
  commander: [/^ctl\//, /^main$/, /^cli$/],
};

const LOG_MESSAGE = /^(NATS |[a-z]).*[^.]$/;
/** Names of hooks and of payload lists. Settings of roots have other names. */
const ATTACH_POINT = /['"`](xdpingress|ingress|egress|xdp_ingress|tc_ingress|tc_egress|(netkit|cgroup_skb)_\w+)['"`]/;
const MAY_NAME_ATTACH_POINTS = [/^domain\/attach-points\//, /^datapath\/libbpf\/attach\//, /^daemon\/roots$/];
const VAGUE_NAMES = /(^|[/.-])(utils?|common|helpers?|misc)([/.-]|$)/;
/** Declarations of types; not the `type X,` in a list of imports. */
const DECLARED_TYPE = /^ *(?:export )?(?:abstract )?(?:(?:interface|class|enum) (\w+)|type (\w+)(?=<| =))/gm;
/** Uses the clock, random numbers or the process. Then the same input no longer gives the same output. */
const IMPURE =
  /\bDate\.now\b|\bDate\(\)|\bprocess\.|\b(performance|setTimeout|setInterval|setImmediate)\b|\bMath\.random\b|\brandom(UUID|Bytes|Int)\b/;
/** Loses its timer when Node.js 20 collects garbage: see src/deadline.ts. */
const LOSING_SIGNAL = /\bAbortSignal\.any\b/;
/** From where a deadline is made to the end of its block. */
const DEADLINE_IN_USE = /^( *)using \w+ = new Deadline[\s\S]*?^(?!\1)/gm;
const UNAWAITED_RETURN = /^ *return (?!await\b)[\w.#]+\(.*/m;
/** The allowed names at the top of the tree, besides dotfiles. */
const TOP_LEVEL = [
  'LICENSE',
  'README.md',
  'deploy',
  'native',
  'package-lock.json',
  'package.json',
  'schemas',
  'src',
  'test',
  'tsconfig.json',
];

interface Module {
  readonly name: string;
  readonly text: string;
  /** The project's own modules, by name. */
  readonly imports: readonly string[];
  /** Packages and `node:` modules. */
  readonly outside: readonly string[];
}

const root = PROJECT_ROOT;
const modules = typescriptFiles('src').map(readModule);

describe('the architecture', () => {
  it('has modules to look at', () => {
    assert.ok(modules.some((module) => module.imports.length > 0 && module.outside.length > 0));
  });

  it('lets every part import only the parts below it', () => {
    const offences = modules.flatMap((module) => {
      const part = partOf(module.name);
      const allowed = MAY_IMPORT[part] ?? [];
      return module.imports
        .filter((target) => partOf(target) !== part && !allowed.includes(target) && !allowed.includes(partOf(target)))
        .map((target) => `${module.name} imports ${target}; ${part} may import ${allowed.join(', ') || 'nothing'}`);
    });
    none(offences, 'declare a small interface in the part that needs it, and hand the other part in from main.ts');
  });

  it('knows every part', () => {
    const parts = new Set(modules.map((module) => partOf(module.name)));
    const unknown = [...parts].filter((part) => !(part in MAY_IMPORT));
    none(unknown, 'say in MAY_IMPORT what the new part may import');
  });

  it('logs in one style', () => {
    const calls = modules.flatMap(({ name, text }) =>
      logCalls(text).map((call) => ({ name, message: /'((?:[^'\\]|\\.)*)',?\s*\)$/.exec(call)?.[1], call })),
    );
    assert.ok(calls.length > 50);
    none(
      calls
        .filter(({ message, call }) => (message === undefined ? call.includes('`') : !LOG_MESSAGE.test(message)))
        .map(({ name, call }) => `${name}: ${call}`),
      'begin with a small letter unless with a name, end without a full stop, and put what differs into the fields',
    );
    none(
      calls
        .filter(({ call }) => /[{,] [a-z]+[A-Z]\w*(:| ?[,}])/.test(call.slice(0, call.lastIndexOf('}') + 1)))
        .map(({ name, call }) => `${name}: ${call}`),
      'name the fields of a log in snake_case',
    );
  });

  it('has no import cycles', () => {
    none(cycles(), 'move what both need into a third module beneath them');
  });

  it('lets each outside package in through one door', () => {
    const offences = modules.flatMap((module) =>
      module.outside
        .filter((specifier) => !specifier.startsWith('node:'))
        .filter((specifier) => !(DOORS[packageOf(specifier)] ?? []).some((door) => door.test(module.name)))
        .map((specifier) => `${module.name} imports ${specifier}`),
    );
    none(offences, 'use the part that is the door (DOORS), or add a door for a new package');
  });

  it('uses every outside package that it depends on, and depends on every one that it uses', () => {
    const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    none(
      Object.keys(dependencies).filter((name) => !(name in DOORS)),
      'say in DOORS where the new dependency comes in, or remove it',
    );
    none(
      Object.keys(DOORS).filter((name) => !(name in dependencies)),
      'remove the door of a package that is gone',
    );
  });

  it('keeps the plan, its steps and the domain pure', () => {
    const pure = modules.filter((module) => ['plan', 'steps', 'domain'].includes(partOf(module.name)));
    const imports = pure.flatMap((module) =>
      module.outside
        // A digest is a pure function of its input, and so is a schema.
        .filter((specifier) => !(['node:crypto', 'zod'].includes(specifier) && partOf(module.name) === 'domain'))
        .map((specifier) => `${module.name} imports ${specifier}`),
    );
    const uses = pure.flatMap((module) => {
      const use = IMPURE.exec(withoutComments(module.text));
      return use === null ? [] : [`${module.name} uses ${use[0]}`];
    });
    none([...imports, ...uses], 'take the time, the chance or the file as an argument');
  });

  it('awaits what a deadline is for, before it is disposed', () => {
    const offences = modules.flatMap(({ name, text }) =>
      [...withoutComments(text).matchAll(DEADLINE_IN_USE)].flatMap(([body]) => {
        const found = UNAWAITED_RETURN.exec(body);
        return found === null ? [] : [`${name}: ${found[0].trim()}`];
      }),
    );
    none(offences, 'return await');
  });

  it('has one way to wait with a deadline', () => {
    const offences = modules.filter((module) => LOSING_SIGNAL.test(withoutComments(module.text)));
    none(
      offences.map(({ name }) => `${name} uses AbortSignal.any`),
      'take a Deadline',
    );
  });

  it('starts no process and serves nothing in a unit test', () => {
    const folder = join(root, 'test/unit');
    const tests = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
    assert.deepEqual(
      tests.filter((name) => STARTS_OR_LISTENS.test(readFileSync(join(folder, name), 'utf8'))),
      [],
      'such tests belong to integration/',
    );
  });

  it('names attach points only where they are described and driven', () => {
    const elsewhere = modules.filter(({ name }) => !MAY_NAME_ATTACH_POINTS.some((place) => place.test(name)));
    none(
      elsewhere.flatMap(({ name, text }) => {
        const found = ATTACH_POINT.exec(withoutComments(text));
        return found === null ? [] : [`${name} names ${found[0]}`];
      }),
      'ask the registry (domain/attach-points) for what is meant by it',
    );
  });

  it('has no vague names', () => {
    const files = [...typescriptFiles('src'), ...typescriptFiles('test')];
    none(
      files.filter((file) => VAGUE_NAMES.test(file)),
      'name the file after what it does',
    );
  });

  it('declares each type once, exported or not', () => {
    const places = new Map<string, string[]>();
    for (const { name, text } of modules) {
      for (const [, named, aliased] of withoutComments(text).matchAll(DECLARED_TYPE)) {
        const type = (named ?? aliased)!;
        places.set(type, [...(places.get(type) ?? []), name]);
      }
    }
    assert.ok(places.size > 400, `found only ${places.size} types`);
    const offences = [...places].filter(([, names]) => names.length > 1);
    none(
      offences.map(([type, names]) => `${type} is declared in ${names.join(' and ')}`),
      'one word for one thing: name the less central one after what it is in its field',
    );
  });

  it('has only the expected names at the top of the tree', () => {
    const made = readFileSync(join(root, '.gitignore'), 'utf8').split('\n');
    const entries = readdirSync(root).filter((entry) => !made.includes(`${entry}/`));
    const visible = entries.filter((entry) => !entry.startsWith('.'));
    assert.deepEqual(visible.toSorted(), TOP_LEVEL, 'put new files into one of the folders');
  });
});

function none(offences: readonly string[], remedy: string): void {
  assert.deepEqual(offences, [], `${offences.join('\n')}\n→ ${remedy}`);
}

/** The folder of a module. For a module at the top of src: its own name. */
function partOf(name: string): string {
  return name.split('/', 1)[0]!;
}

/** The package of an import: `@scope/name/deep` and `name/deep` without `/deep`. */
function packageOf(specifier: string): string {
  return specifier
    .split('/')
    .slice(0, specifier.startsWith('@') ? 2 : 1)
    .join('/');
}

function readModule(file: string): Module {
  const text = readFileSync(join(root, file), 'utf8');
  const name = moduleName(file);
  const specifiers = importsIn(withoutComments(text));
  return {
    name,
    text,
    imports: specifiers
      .filter((specifier) => specifier.startsWith('.'))
      .map((specifier) => posix.join(posix.dirname(name), specifier).replace(/\.js$/, '')),
    outside: specifiers.filter((specifier) => !specifier.startsWith('.')),
  };
}

function moduleName(file: string): string {
  return file.replace(/^src\//, '').replace(/\.ts$/, '');
}

function importsIn(text: string): string[] {
  const forms = /\bfrom\s*['"]([^'"]+)['"]|\bimport\s*['"]([^'"]+)['"]|\b(?:import|require)\(\s*['"]([^'"]+)['"]/g;
  return [...text.matchAll(forms)].map(([, from, bare, called]) => (from ?? bare ?? called)!);
}

/** Good enough for formatted code: a `//` after a colon is part of an address in a string. */
function withoutComments(text: string): string {
  return text.replaceAll(/\/\*.*?\*\//gs, '').replaceAll(/(?<![:'"`\\])\/\/.*$/gm, '');
}

/** Each cycle once, as `a → b → a`. */
function cycles(): string[] {
  const importsOf = new Map(modules.map((module) => [module.name, module.imports]));
  const found: string[] = [];
  const done = new Set<string>();
  const visit = (name: string, trail: readonly string[]): void => {
    const seenAt = trail.indexOf(name);
    if (seenAt !== -1) found.push([...trail.slice(seenAt), name].join(' → '));
    if (seenAt !== -1 || done.has(name)) return;
    for (const next of importsOf.get(name) ?? []) visit(next, [...trail, name]);
    done.add(name);
  };
  for (const { name } of modules) visit(name, []);
  return found;
}

/** Paths from the root of the project, with `/` between folders. */
function typescriptFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => posix.join(folder, file.replaceAll('\\', '/')))
    .toSorted();
}

/** The calls of a logger, each from its method to its closing parenthesis. */
function logCalls(text: string): string[] {
  return [...text.matchAll(/\b[lL]og(?:ger)?\??\.(?:trace|debug|info|warn|error|fatal)\(/g)].map(
    ({ index, 0: head }) => {
      let depth = 1;
      let end = index + head.length;
      for (; depth > 0 && end < text.length; end += 1) {
        if (text[end] === '(') depth += 1;
        if (text[end] === ')') depth -= 1;
      }
      return text.slice(index, end);
    },
  );
}
