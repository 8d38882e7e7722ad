import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { before, describe, it } from 'node:test';
import { probesOf } from '../../src/domain/desired.js';
import { parseAcknowledgement } from '../../src/messages/ack.js';
import { codeSchema } from '../../src/messages/codes.js';
import { parseCommand } from '../../src/messages/parse.js';
import { programSchema } from '../../src/messages/payload.js';
import { STREAMS } from '../../src/messages/subjects.js';
import { AGENT, L3AFCTL, PROJECT_ROOT } from '../support/project.js';

const HOST = 'web1';
const DOCUMENTS = ['README.md', 'src/README.md', 'deploy/README.md'];
const EXAMPLES = readdirSync(join(PROJECT_ROOT, 'deploy/examples'));

const EXECUTABLES: Readonly<Record<string, string>> = {
  'l3af-agent': AGENT,
  l3afctl: L3AFCTL,
};

describe('the payloads that people copy', () => {
  for (const name of EXAMPLES) {
    it(`are valid in deploy/examples/${name}`, () => {
      const command = parseCommand(
        verbOf(text(`deploy/examples/${name}`)),
        bytes(text(`deploy/examples/${name}`)),
        HOST,
      );

      const asked = command.verb === 'delete' ? command.targets : [...command.chains, ...probesOf(command)];
      assert.ok(asked.length > 0);
    });
  }

  it('are the same in README.md as in deploy/examples', () => {
    const examples = EXAMPLES.map((name) => JSON.stringify(JSON.parse(text(`deploy/examples/${name}`))));
    const shown = jsonBlocks('README.md').filter((block) => block.startsWith('['));

    assert.ok(shown.length >= 2, 'README.md shows a payload of programs and one of names');
    for (const block of shown) {
      assert.ok(examples.includes(JSON.stringify(JSON.parse(block))), `no file of deploy/examples is\n${block}`);
    }
  });

  it('include an acknowledgement with a valid schema', () => {
    const acknowledgements = jsonBlocks('README.md').filter((block) => block.startsWith('{'));

    assert.ok(acknowledgements.length > 0);
    for (const block of acknowledgements) assert.equal(parseAcknowledgement(bytes(block)).host, HOST);
  });
});

describe('the commands that people copy', () => {
  const help = new Map<string, string>();

  before(() => {
    for (const { program, subcommand } of DOCUMENTS.flatMap(invocationsIn)) {
      const key = `${program} ${subcommand}`;
      const args = [EXECUTABLES[program]!, ...(subcommand === '' ? [] : subcommand.split(' ')), '--help'];
      if (!help.has(key)) help.set(key, execFileSync(process.execPath, args, { encoding: 'utf8' }));
    }
  });

  for (const document of DOCUMENTS) {
    it(`exist with the options that ${document} gives them`, () => {
      const unknown = invocationsIn(document).flatMap(({ program, subcommand, flags }) => {
        const own = help.get(`${program} ${subcommand}`) ?? '';
        const usage = `Usage: ${program}${subcommand === '' ? '' : ` ${subcommand}`} `;
        if (!own.startsWith(usage)) return [`${program} ${subcommand}`];
        return flags
          .filter((flag) => !mentions(own, flag) && !mentions(help.get(`${program} `) ?? '', flag))
          .map((flag) => `${program} ${subcommand} ${flag}`);
      });

      assert.deepEqual(unknown, []);
    });
  }

  it('exist in the documents', () => {
    const subcommands = new Set(
      invocationsIn('README.md').map(({ program, subcommand }) => `${program} ${subcommand}`),
    );

    for (const verb of ['deploy', 'add', 'delete', 'plan', 'show', 'status', 'programs', 'acks']) {
      assert.ok(subcommands.has(`l3afctl ${verb}`), `README.md does not show l3afctl ${verb}`);
    }
    assert.ok(subcommands.has('l3af-agent run') && subcommands.has('l3af-agent check'));
  });
});

describe('what the documents refer to', () => {
  for (const document of DOCUMENTS) {
    it(`exists, for ${document}`, () => {
      const targets = [...text(document).matchAll(/\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)/g)].map(([, path]) => path!);
      const missing = targets.filter((path) => !existsSync(join(PROJECT_ROOT, dirname(document), path)));

      assert.deepEqual(missing, []);
    });

    it(`exists in ${document} for its internal links`, () => {
      const anchors = new Set([...text(document).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => anchorOf(heading!)));
      const wanted = [...text(document).matchAll(/\]\(#([^)]+)\)/g)].map(([, anchor]) => anchor!);

      assert.deepEqual(
        wanted.filter((anchor) => !anchors.has(anchor)),
        [],
      );
    });
  }

  it('has the streams and buckets in README.md', () => {
    const readme = text('README.md');

    assert.deepEqual(
      Object.values(STREAMS).filter((name) => !readme.includes(`\`${name}\``)),
      [],
    );
  });

  it('has the fields of a program in README.md', () => {
    const readme = text('README.md');
    // The fields of companions are described together.
    const fields = Object.keys(programSchema.shape).filter((field) => !/^cmd_|(?<!map)_args$/.test(field));

    assert.deepEqual(
      fields.filter((field) => !readme.includes(`\`${field}\``)),
      [],
    );
  });

  it('has every code in README.md', () => {
    const readme = text('README.md');
    const codes = codeSchema.meta()?.examples as readonly string[];

    assert.ok(codes.includes('VERIFIER_REJECTED'));
    assert.deepEqual(
      codes.filter((code) => !readme.includes(`\`${code}\``)),
      [],
    );
  });
});

interface Invocation {
  readonly program: string;
  /** '' for none. */
  readonly subcommand: string;
  readonly flags: readonly string[];
}

/** All calls of our programs in a document: in code blocks and between backquotes. */
function invocationsIn(document: string): Invocation[] {
  const content = text(document);
  const blocks = [...content.matchAll(/^```(?:sh|text)\n(.*?)^```$/gms)].map(([, block]) => block!);
  const inline = [...content.replaceAll(/^```.*?^```$/gms, '').matchAll(/`([^`\n]+)`/g)].map(([, code]) => code!);
  const lines = [...blocks.flatMap((block) => block.split('\n')), ...inline];
  return lines.flatMap((line) =>
    [
      ...line.matchAll(
        /(?<=^(?:\$ |[A-Z0-9_]+=\S+ )*|\| )(l3afctl|l3af-agent)(?: (package [a-z]+|[a-z]+))?(?=\s|$)([^|]*)/g,
      ),
    ].map(([, program, subcommand = '', rest = '']) => ({
      program: program!,
      subcommand,
      flags: [...rest.matchAll(/(?<=\s)--?[a-z][a-z-]*/g)].map(([flag]) => flag),
    })),
  );
}

function mentions(help: string, flag: string): boolean {
  return new RegExp(`(^|[\\s,])${flag}(?=[\\s,=]|$)`, 'm').test(help);
}

function verbOf(payload: string): 'delete' | 'deploy' {
  const [entry] = JSON.parse(payload) as [{ bpf_programs: Record<string, unknown[]> }];
  return Object.values(entry.bpf_programs).some(([first]) => typeof first === 'string') ? 'delete' : 'deploy';
}

function jsonBlocks(document: string): string[] {
  return [...text(document).matchAll(/^```json\n(.*?)^```$/gms)].map(([, block]) => block!);
}

/** The anchor that code hosts generate: lower case, blanks as hyphens, without punctuation. */
function anchorOf(heading: string): string {
  return heading
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}\s_-]/gu, '')
    .replaceAll(/\s/g, '-');
}

function bytes(content: string): Uint8Array {
  return new TextEncoder().encode(content);
}

function text(path: string): string {
  return readFileSync(join(PROJECT_ROOT, path), 'utf8');
}
