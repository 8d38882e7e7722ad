import { basename } from 'node:path';

/** The format of sha256sum(1): `<hex>  <name>` or `<hex> *<name>`. */
const LINE = /^(?<hex>[0-9a-f]{64}) [ *](?<name>.+)$/i;
/** The format of `sha256sum --tag`, and with fewer spaces of openssl(1): `SHA256 (<name>) = <hex>`. */
const TAGGED = /^SHA(2-)?256 ?\((?<name>.+)\) ?= (?<hex>[0-9a-f]{64})$/i;

/**
 * Reads the digest of an artifact from a checksum file. The file is a list, or one digest alone.
 *
 * @returns the distinct digests in lower-case hexadecimal; exactly one if the file is valid
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
