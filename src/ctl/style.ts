import { styleText } from 'node:util';

type Format = Parameters<typeof styleText>[0];

/** Colours a text, or leaves it as it is. */
export type Style = (format: Format, text: string) => string;

/** What styleText would look at on its own, standard output and the real environment, has been looked at already. */
const COLOURED: Style = (format, text) => styleText(format, text, { validateStream: false });

const PLAIN: Style = (_format, text) => text;

/** Colours for a terminal only, and never when NO_COLOR is set to anything (https://no-color.org). */
export function styleFor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): Style {
  return stream.isTTY === true && !env.NO_COLOR ? COLOURED : PLAIN;
}

/**
 * A text that came over the bus, fit for a terminal: without control characters, which could move the cursor or
 * recolour what is already there. Line breaks and tabs stay.
 */
export function harmless(text: string): string {
  return text.replaceAll(/[^\P{Cc}\n\t]/gu, '\uFFFD');
}
