import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { AgentError } from '../errors.js';
import { digestsFor } from './checksums.js';
import { type FetchedFile, fetchFile } from './fetch.js';
import { checksumUrl, shownUrl, signatureUrl } from './location.js';
import { readSignatures } from './signature.js';
import type { Transport } from './transport.js';

/** Large enough for the checksums of a whole release. */
const MAX_BESIDE_BYTES = 64 * 1024;

/**
 * Checks a fetched artifact against its digest: the one in the program's payload, or else the one in the checksum file
 * next to the artifact, if there is one.
 *
 * @param asked SHA-256 in lower-case hexadecimal
 * @throws AgentError DIGEST_MISMATCH with both digests, ARTIFACT_INVALID for a checksum file without a digest for the
 *   artifact, and what fetching throws: a checksum file that cannot be fetched now may still exist
 */
export async function verifyDigest(
  artifact: FetchedFile,
  url: URL,
  asked: string | undefined,
  transport: Transport,
): Promise<void> {
  const place = checksumUrl(url);
  const expected = asked ?? (await announcedDigest(place, url, `${artifact.path}.sha256`, transport));
  if (expected === undefined || expected === artifact.digest) return;
  const by = asked === undefined ? shownUrl(place) : 'the program';
  const message = `${shownUrl(url)} has the digest sha256:${artifact.digest}, but ${by} says sha256:${expected}`;
  throw new AgentError('DIGEST_MISMATCH', message);
}

/**
 * Fetches the signatures next to an artifact.
 *
 * @returns an empty list if there are none
 * @throws AgentError SIGNATURE_INVALID for a file that is not a signature, and what fetching throws
 */
export async function fetchSignatures(
  artifact: FetchedFile,
  url: URL,
  transport: Transport,
): Promise<readonly string[]> {
  const place = signatureUrl(url);
  const content = await fetchBeside(place, `${artifact.path}.sig`, transport);
  if (content === undefined) return [];
  const signatures = readSignatures(content);
  if (signatures !== undefined) return signatures;
  const message = `${shownUrl(place)} is not a signature: expected 64 bytes, or lines of base64`;
  throw new AgentError('SIGNATURE_INVALID', message);
}

/** @returns undefined if there is no such file */
async function fetchBeside(place: URL, path: string, transport: Transport): Promise<Buffer | undefined> {
  try {
    const limits = { ...transport.limits, maxBytes: MAX_BESIDE_BYTES };
    await fetchFile(place, path, { ...transport, limits });
    return await readFile(path);
  } catch (error) {
    if (error instanceof AgentError && error.code === 'ARTIFACT_NOT_FOUND') return undefined;
    throw error;
  }
}

async function announcedDigest(place: URL, url: URL, path: string, transport: Transport): Promise<string | undefined> {
  const checksums = await fetchBeside(place, path, transport);
  if (checksums === undefined) return undefined;
  const name = decodeURIComponent(basename(url.pathname));
  const [digest, ...others] = digestsFor(name, checksums.toString('utf8'));
  if (digest !== undefined && others.length === 0) return digest;
  const what = digest === undefined ? 'no SHA-256 digest' : 'more than one SHA-256 digest';
  throw new AgentError('ARTIFACT_INVALID', `${shownUrl(place)} holds ${what} for ${name}`);
}
