import { type KeyObject, sign, verify } from 'node:crypto';
import type { PackageRef } from '../domain/program.js';
import { AgentError } from '../errors.js';
import type { TrustedKey } from './keys.js';

const SIGNATURE_POLICIES = ['off', 'if-present', 'required'] as const;

/** `if-present` accepts a package without a signature, but refuses one with a wrong signature. */
export type SignaturePolicy = (typeof SIGNATURE_POLICIES)[number];

export interface SignatureRules {
  readonly policy: SignaturePolicy;
  readonly keys: readonly TrustedKey[];
}

/** What a signature confirms. */
export interface Statement extends Pick<PackageRef, 'name' | 'version' | 'artifact'> {
  /** The platform folder in the repository: a codename, or `any`. */
  readonly platform: string;
  /** SHA-256 of the artifact, in lower-case hexadecimal. */
  readonly digest: string;
}

/** Bytes of an ed25519 signature (RFC 8032, 5.1.6). */
const SIGNATURE_BYTES = 64;

/**
 * Signs a package. The signature covers name, version and platform too. Otherwise an attacker could replace a new
 * version by a signed old one, or one package by another.
 *
 * @returns base64
 */
export function signPackage(statement: Statement, key: KeyObject): string {
  return sign(null, statementBytes(statement), key).toString('base64');
}

/**
 * The signatures in a `.sig` file: one per line in base64, or the 64 bytes of a single one.
 *
 * @returns signatures in base64; undefined if the file holds anything else
 */
export function readSignatures(content: Buffer): readonly string[] | undefined {
  if (content.length === SIGNATURE_BYTES) return [content.toString('base64')];
  const lines = content
    .toString('latin1')
    .split('\n')
    .map((line) => line.trim());
  const signatures = lines.filter((line) => line !== '');
  const whole = signatures.length > 0 && signatures.every((line) => /^[A-Za-z0-9+/]{86}==$/.test(line));
  return whole ? signatures : undefined;
}

/** The trusted key that made one of the signatures for exactly this statement. */
function signerOf(
  statement: Statement,
  signatures: readonly string[],
  keys: readonly TrustedKey[],
): TrustedKey | undefined {
  const bytes = statementBytes(statement);
  return keys.find(({ key }) => signatures.some((text) => verify(null, bytes, key, Buffer.from(text, 'base64'))));
}

/**
 * Checks a package's signatures against the rules.
 *
 * @param signatures empty for an unsigned package
 * @throws AgentError SIGNATURE_MISSING, SIGNATURE_INVALID
 */
export function requireSignature(statement: Statement, signatures: readonly string[], rules: SignatureRules): void {
  const { name, version } = statement;
  if (rules.policy === 'off') return;
  if (signatures.length === 0) {
    if (rules.policy !== 'required') return;
    throw new AgentError('SIGNATURE_MISSING', `${name} ${version} is not signed, and signature_policy requires it`);
  }
  if (signerOf(statement, signatures, rules.keys) !== undefined) return;
  const message =
    `The signature of ${name} ${version} for ${statement.platform} was not made with any of the ` +
    `${rules.keys.length} trusted keys, or it was made for another package`;
  throw new AgentError('SIGNATURE_INVALID', message);
}

/** No part can contain a line break, so two different statements never have the same bytes. */
function statementBytes({ name, version, platform, artifact, digest }: Statement): Buffer {
  return Buffer.from(`l3af-package-v1\n${name}\n${version}\n${platform}\n${artifact}\nsha256:${digest}\n`);
}
