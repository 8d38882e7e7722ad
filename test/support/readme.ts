import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from './project.js';

/** A command in the README, and the lines of its output there. */
export interface Shown {
  readonly command: string;
  readonly output: readonly string[];
}

const README = readFileSync(join(PROJECT_ROOT, 'README.md'), 'utf8');

/** The commands in a section's code blocks: lines that begin with `$ `. */
export function commandsIn(heading: string): Shown[] {
  return blocksIn(heading, 'text').flatMap((block) =>
    block
      .split(/^\$ /m)
      .filter((part) => part.trim() !== '')
      .map((part) => {
        const [command = '', ...output] = part.trimEnd().split('\n');
        return { command, output };
      }),
  );
}

/** A section's code blocks of one language. */
export function blocksIn(heading: string, language: 'sh' | 'text'): string[] {
  const [, section = ''] = README.split(new RegExp(`^#+ ${heading}$`, 'm'));
  const own = section.split(/^##/m)[0] ?? '';
  return [...own.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\`$`, 'gms'))].map(([, block]) => block ?? '');
}
