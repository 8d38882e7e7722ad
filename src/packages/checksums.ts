import { basename } from 'node:path';

/** As sha256sum(1) writes it, `<hex>  <name>` or `<hex> *<name>`. */
const LINE = /^(?<hex>[0-9a-f]{64}) [ *](?<name>.+)$/i;
/** As `sha256sum --tag` writes it, and with less space openssl(1): `SHA256 (<name>) = <hex>`. */
const TAGGED = /^SHA(2-)?256 ?\((?<name>.+)\) ?= (?<hex>[0-9a-f]{64})$/i;

/**
 * What a checksum file, which is a list or one bare digest, says of an artifact.
 *
 * @returns each digest once, in lower-case hexadecimal: one, where the file is good for anything
 */
export function digestsFor(artifact: string, checksums: string): readonly string[] {
  const lines = checksums.split('\n').map((line) => line.trim());
  const listed = lines.flatMap((line) => {
    const { hex, name = '' } = (LINE.exec(line) ?? TAGGED.exec(line))?.groups ?? {};
    return hex !== undefined && basename(name) === artifact ? [hex] : [];
  });
  const bare = /^[0-9a-f]{64}$/i.exec(checksums.trim());
  const digests = bare === null ? listed : [bare[0]];
  return [...new Set(digests.map((digest) => digest.toLowerCase()))];
}
