import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { AgentError } from '../errors.js';

/** An ed25519 public key, 32 bytes in base64, as in the configuration and in a `.pub` file. */
const PUBLIC_KEY = /^[A-Za-z0-9+/]{43}=$/;

export interface TrustedKey {
  /** In base64, as it was given. */
  readonly text: string;
  readonly key: KeyObject;
}

export interface KeyPair {
  /** PKCS#8 in PEM. */
  readonly privateKey: string;
  /** In base64. */
  readonly publicKey: string;
}

export function generateKeys(): KeyPair {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return {
    privateKey: privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(),
    publicKey: publicKeyText(publicKey),
  };
}

/**
 * Reads the keys that signatures are checked with.
 *
 * @param given keys in base64, and paths of files with one key a line; lines that begin with `#` are comments
 * @throws AgentError CONFIG_INVALID for a file that cannot be read or holds no key
 */
export async function readTrustedKeys(given: readonly string[]): Promise<readonly TrustedKey[]> {
  const keys = await Promise.all(
    given.map((text) => (PUBLIC_KEY.test(text) ? [trustedKey(text, text)] : keysIn(text))),
  );
  return keys.flat();
}

/** @throws AgentError CONFIG_INVALID for a file that cannot be read or holds no ed25519 private key */
export async function readPrivateKey(path: string): Promise<KeyObject> {
  const pem = await readKeyFile(path);
  if (pem.includes('BEGIN ENCRYPTED PRIVATE KEY')) {
    const message = `${path} is encrypted; decrypt it for the time that it is needed, with openssl pkey -in ${path}`;
    throw new AgentError('CONFIG_INVALID', message);
  }
  try {
    const key = createPrivateKey(pem);
    if (key.asymmetricKeyType === 'ed25519') return key;
  } catch {
    // Reported below, since OpenSSL's own message ("DECODER routines::unsupported") does not help.
  }
  throw new AgentError(
    'CONFIG_INVALID',
    `${path} holds no ed25519 private key in PEM; create one with l3afctl package keygen`,
  );
}

/** The public half of a key, in base64. */
export function publicKeyText(key: KeyObject): string {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  const { x = '' } = publicKey.export({ format: 'jwk' });
  return Buffer.from(x, 'base64url').toString('base64');
}

async function keysIn(path: string): Promise<readonly TrustedKey[]> {
  const lines = (await readKeyFile(path)).split('\n').map((line) => line.trim());
  const keys = lines.filter((line) => line !== '' && !line.startsWith('#')).map((line) => trustedKey(line, path));
  if (keys.length > 0) return keys;
  throw new AgentError('CONFIG_INVALID', `${path} holds no public key`);
}

function trustedKey(text: string, where: string): TrustedKey {
  try {
    if (PUBLIC_KEY.test(text)) {
      const x = Buffer.from(text, 'base64').toString('base64url');
      return { text, key: createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' }) };
    }
  } catch {
    // 32 bytes that are not a key: reported below, like any other invalid text.
  }
  throw new AgentError('CONFIG_INVALID', `Expected an ed25519 public key, 32 bytes in base64, in ${where}`);
}

async function readKeyFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new AgentError('CONFIG_INVALID', `The key file ${path} cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
}
