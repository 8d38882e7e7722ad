import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { describe, it } from 'node:test';
import { PROJECT_ROOT } from './support/project.js';

/*
 * Holds what the layout promises (src/README.md): who imports whom, through which door the outside comes in, what is pure.
 * Modules are named by their path below src without `.ts`: `bus/inbox`, `config`.
 */

/** What a stage may import: folders, or single modules of a folder. Its own folder always. */
const STAGES: Readonly<Record<string, readonly string[]>> = {
  errors: [],
  domain: ['errors'],
  config: ['errors'],
  messages: ['errors', 'domain'],
  plan: ['errors', 'domain'],
  apply: ['errors', 'domain', 'datapath/datapath'],
  datapath: ['errors', 'domain'],
  packages: ['errors', 'domain'],
  companions: ['errors', 'domain'],
  store: ['errors', 'domain'],
  bus: ['errors', 'domain', 'messages'],
  telemetry: ['errors', 'domain'],
  client: ['errors', 'domain', 'messages', 'bus/access', 'bus/connection', 'bus/objects'],
  ctl: ['errors', 'domain', 'messages', 'client', 'packages'],
};

/** What puts the stages together: it may import all of them, and of one another what is said here. No stage may import any of it. */
const WIRING: Readonly<Record<string, readonly string[]>> = {
  reconcile: [],
  host: ['reconcile'],
  commands: ['host', 'reconcile'],
  questions: ['host'],
  life: ['host', 'commands/command-bus'],
  agent: ['commands', 'host'],
  daemon: ['agent', 'life', 'host', 'questions'],
  main: ['daemon', 'life'],
};

const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  ...STAGES,
  ...Object.fromEntries(Object.entries(WIRING).map(([part, others]) => [part, [...Object.keys(STAGES), ...others]])),
};

/** The one door of each outside package. */
const DOORS: Readonly<Record<string, readonly RegExp[]>> = {
  nats: [/^bus\//, /^client\//],
  koffi: [/^datapath\/libbpf\//],
  'p-queue': [/^apply\//],
  pino: [/^telemetry\//],
  'prom-client': [/^telemetry\//],
  zod: [/^messages\//, /^store\//, /^config(\/|$)/],
  tar: [/^packages\//],
  yauzl: [/^packages\//],
  yaml: [/^config(\/|$)/],
  commander: [/^ctl\//, /^main$/, /^cli$/],
};

const MAX_LINES = 300;
const VAGUE_NAMES = /(^|[/.-])(utils?|common|helpers?|misc)([/.-]|$)/;
/** Reaches for the clock, chance or the process: the same input would no longer give the same output. */
const IMPURE =
  /\bDate\.now\b|\bDate\(\)|\b(process|performance|setTimeout|setInterval|setImmediate)\b|\bMath\.random\b|\brandom(UUID|Bytes|Int)\b/;
/** Besides dotfiles. */
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
  /** Modules of ours, by name. */
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

  it('lets every part import only what lies beneath it', () => {
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

  it('keeps the plan and the domain pure', () => {
    const pure = modules.filter((module) => ['plan', 'domain'].includes(partOf(module.name)));
    const imports = pure.flatMap((module) =>
      module.outside
        // A digest is a pure function of its input.
        .filter((specifier) => !(specifier === 'node:crypto' && partOf(module.name) === 'domain'))
        .map((specifier) => `${module.name} imports ${specifier}`),
    );
    const uses = pure.flatMap((module) => {
      const use = IMPURE.exec(withoutComments(module.text));
      return use === null ? [] : [`${module.name} uses ${use[0]}`];
    });
    none([...imports, ...uses], 'take the time, the chance or the file as an argument');
  });

  it(`has no file of more than ${MAX_LINES} lines`, () => {
    const offences = [...typescriptFiles('src'), ...typescriptFiles('test')].flatMap((file) => {
      const lines = readFileSync(join(root, file), 'utf8').trimEnd().split('\n').length;
      return lines > MAX_LINES ? [`${file} has ${lines} lines`] : [];
    });
    none(offences, 'find the two things that the file is about and give each its own');
  });

  it('has no names that say nothing', () => {
    const files = [...typescriptFiles('src'), ...typescriptFiles('test')];
    none(
      files.filter((file) => VAGUE_NAMES.test(file)),
      'name the file after what it does',
    );
  });

  it('has nothing at the top of the tree that does not belong there', () => {
    const listed = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root });
    const entries = new Set(
      listed
        .toString()
        .split('\n')
        .filter((file) => file !== '' && existsSync(join(root, file)))
        .map((file) => file.split('/', 1)[0]!),
    );
    const visible = [...entries].filter((entry) => !entry.startsWith('.'));
    assert.deepEqual(visible.toSorted(), TOP_LEVEL, 'put new files into one of the folders');
  });
});

function none(offences: readonly string[], remedy: string): void {
  assert.deepEqual(offences, [], `${offences.join('\n')}\n→ ${remedy}`);
}

/** The folder of a module; of one at the top of src its own name. */
function partOf(name: string): string {
  return name.split('/', 1)[0]!;
}

/** `@scope/name/deep` and `name/deep` without what is deep. */
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

/** Good enough for formatted code: a `//` that follows a colon belongs to an address in a string. */
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

/** Paths from the root of the project, with `/`. */
function typescriptFiles(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => posix.join(folder, file.replaceAll('\\', '/')))
    .toSorted();
}
