import { join } from 'node:path';
import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import { type FetchedFile, fetchFile } from './fetch.js';
import type { UnpackLimits } from './limits.js';
import { type Candidate, candidates, shownUrl } from './location.js';
import type { PackageRecord } from './record.js';
import { requireSignature, type SignatureRules } from './signature.js';
import type { Transport } from './transport.js';
import { requireArchiveName, unpack } from './unpack.js';
import { fetchSignatures, verifyDigest } from './verify.js';

export interface ObtainOptions {
  readonly repoUrl: string | undefined;
  readonly platform: string;
  readonly signatures: SignatureRules;
  readonly transport: Transport;
  readonly unpackLimits: UnpackLimits;
}

/**
 * Fetches a package, verifies its digest and signature, and only then unpacks it to the folder `content` in `work`.
 *
 * @throws AgentError like PackageCache.ensure
 */
export async function obtainPackage(ref: PackageRef, work: string, options: ObtainOptions): Promise<PackageRecord> {
  const { signatures: rules, transport } = options;
  requireArchiveName(ref.artifact);
  const places = candidates(ref, options.repoUrl, options.platform);
  const { place, artifact } = await fetchFirst(places, join(work, 'artifact'), transport);
  const { url, platform } = place;
  const { digest } = artifact;
  await verifyDigest(artifact, url, ref.sha256, transport);
  const signatures = rules.policy === 'off' ? undefined : await fetchSignatures(artifact, url, transport);
  requireSignature({ ...ref, platform, digest }, signatures ?? [], rules);
  const files = await unpack(ref.artifact, artifact, join(work, 'content'), options.unpackLimits);
  const fetchedAt = new Date().toISOString();
  return { digest, url: shownUrl(url), fetchedAt, platform, ...(signatures !== undefined && { signatures }), files };
}

async function fetchFirst(
  places: readonly Candidate[],
  path: string,
  transport: Transport,
): Promise<{ place: Candidate; artifact: FetchedFile }> {
  let missing: unknown;
  for (const place of places) {
    try {
      const began = performance.now();
      const artifact = await fetchFile(place.url, path, transport);
      transport.onFetched?.({ bytes: artifact.size, seconds: (performance.now() - began) / 1000 });
      return { place, artifact };
    } catch (error) {
      if (!(error instanceof AgentError) || error.code !== 'ARTIFACT_NOT_FOUND') throw error;
      missing = error;
    }
  }
  const message = `No such package: nothing found at ${places.map(({ url }) => shownUrl(url)).join(' or ')}`;
  throw new AgentError('ARTIFACT_NOT_FOUND', message, { cause: missing });
}
