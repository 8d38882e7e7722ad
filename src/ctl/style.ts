import { styleText } from 'node:util';

type TextFormat = Parameters<typeof styleText>[0];

/** Colours a text, or returns it unchanged. */
export type Style = (format: TextFormat, text: string) => string;

/** Without validation by styleText, which would check the real standard output and environment: `styleFor` decides. */
const COLOURED: Style = (format, text) => styleText(format, text, { validateStream: false });

const PLAIN: Style = (_format, text) => text;

/** Colours for a terminal only, and never when NO_COLOR is set to anything (https://no-color.org). */
export function styleFor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Style {
  return stream.isTTY === true && !env.NO_COLOR ? COLOURED : PLAIN;
}

/**
 * Makes a text from the bus safe for a terminal: replaces control characters, which could move the cursor or change
 * colours. Line breaks and tabs stay.
 */
export function harmless(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, '\uFFFD');
}
