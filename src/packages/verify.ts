import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { AgentError } from '../errors.js';
import { digestsFor } from './checksums.js';
import { type FetchedFile, fetchFile } from './fetch.js';
import { checksumUrl, shownUrl, signatureUrl } from './location.js';
import { readSignatures } from './signature.js';
import type { Transport } from './transport.js';

/** A list of checksums of a whole release fits; a page that says "not found" in many words does not matter. */
const MAX_BESIDE_BYTES = 64 * 1024;

/**
 * Holds a fetched artifact against its digest: the one that the program asks for, else the one in the checksum file beside it, where
 * there is one.
 *
 * @param asked SHA-256 in lower-case hexadecimal
 * @throws AgentError DIGEST_MISMATCH naming both digests, ARTIFACT_INVALID for a checksum file without a digest for the artifact,
 *   and what fetching throws: a checksum that cannot be had now is not a checksum that does not exist
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
 * The signatures beside an artifact.
 *
 * @returns empty where there are none
 * @throws AgentError SIGNATURE_INVALID for a file that is no signature, and what fetching throws
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
  const message = `${shownUrl(place)} is no signature: expected 64 bytes, or lines of base64`;
  throw new AgentError('SIGNATURE_INVALID', message);
}

/** @returns undefined where there is no such file */
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
