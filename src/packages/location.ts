import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import { ANY_PLATFORM } from './platform.js';

const SCHEMES = ['http:', 'https:', 'file:', 'nats:'];

/** A possible location of a package. */
export interface Candidate {
  readonly url: URL;
  /** The platform folder in the repository. */
  readonly platform: string;
}

/**
 * The possible locations of a package, best one first: `<repo>/<name>/<version>/<platform>/<artifact>`, then the same
 * with the platform `any`.
 *
 * @param repoUrl the repository that applies to the package; undefined or '' if none is configured
 * @throws AgentError ARTIFACT_UNREACHABLE without a repository, UNSUPPORTED for an unknown scheme, INVALID_FIELD for
 *   parts that do not form a URL
 */
export function candidates(ref: PackageRef, repoUrl: string | undefined, platform: string): readonly Candidate[] {
  const repo = repositoryUrl(ref, repoUrl);
  return [...new Set([platform, ANY_PLATFORM])].map((folder) => {
    const segments = [
      segment('name', ref.name),
      segment('version', ref.version),
      segment('platform', folder),
      segment('artifact', ref.artifact),
    ];
    return { url: appendPath(repo, `/${segments.join('/')}`), platform: folder };
  });
}

/** The URL of an artifact's checksum file: next to the artifact, in the format of sha256sum(1). */
export function checksumUrl(artifact: URL): URL {
  return appendPath(artifact, '.sha256');
}

/** The URL of an artifact's signature file: next to the artifact. */
export function signatureUrl(artifact: URL): URL {
  return appendPath(artifact, '.sig');
}

/** @throws AgentError UNSUPPORTED for anything but http, https, file and nats */
export function requireKnownScheme(url: URL): void {
  if (SCHEMES.includes(url.protocol)) return;
  const message = `${shownUrl(url)} cannot be fetched: expected http://, https://, file:// or nats://, got ${url.protocol}//`;
  throw new AgentError('UNSUPPORTED', message);
}

/** A URL for messages and records: without user, password and query, which may hold secrets. */
export function shownUrl(url: URL): string {
  const shown = new URL(url);
  shown.username = '';
  shown.password = '';
  shown.search = '';
  shown.hash = '';
  return shown.href;
}

/** `user:password` of a URL, undefined if it has neither. Some servers take a token as a password without a user. */
export function credentialsOf({ username, password }: URL): string | undefined {
  if (username === '' && password === '') return undefined;
  return `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
}

function repositoryUrl(ref: PackageRef, repoUrl: string | undefined): URL {
  if (!repoUrl) {
    const message =
      `No package repository is known for ${ref.name} ${ref.version}: ` +
      'set L3AF_REPO_URL for the agent or ebpf_package_repo_url for the program';
    throw new AgentError('ARTIFACT_UNREACHABLE', message);
  }
  if (!URL.canParse(repoUrl)) {
    const message = `The package repository of ${ref.name} is not a URL: expected http://, https://, file:// or nats://`;
    throw new AgentError('INVALID_FIELD', message);
  }
  const url = new URL(repoUrl);
  requireKnownScheme(url);
  if (url.protocol === 'nats:' && (!/^[\w-]*$/.test(url.host) || url.username !== '' || url.search !== '')) {
    const message = `The package repository of ${ref.name} is not an object store: expected nats://<bucket>`;
    throw new AgentError('INVALID_FIELD', message);
  }
  return url;
}

/** Keeps the query, which carries the access token for repositories in object stores on the web. */
function appendPath(url: URL, suffix: string): URL {
  const longer = new URL(url);
  longer.pathname = `${url.pathname.replace(/\/+$/, '')}${suffix}`;
  return longer;
}

function segment(field: string, value: string): string {
  if (value === '' || value === '.' || value === '..' || /[/\\\p{Cc}\p{Cs}]/u.test(value)) {
    const message = `The package's ${field} ${JSON.stringify(value)} cannot be part of a URL: slashes, dot names and control characters are refused`;
    throw new AgentError('INVALID_FIELD', message);
  }
  return encodeURIComponent(value);
}
