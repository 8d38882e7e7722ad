import { join } from 'node:path';
import { run } from './tool.js';

/**
 * Makes a self-signed certificate.
 *
 * @param names as openssl wants them: `IP:127.0.0.1,DNS:localhost`
 * @returns the paths of certificate and key
 */
export async function makeCertificate(dir: string, names: string): Promise<{ cert: string; key: string }> {
  const [cert, key] = [
    join(dir, `${names.replaceAll(/\W/g, '-')}.pem`),
    join(dir, `${names.replaceAll(/\W/g, '-')}.key`),
  ];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'];
  const subject = ['-subj', '/CN=broker', '-addext', `subjectAltName=${names}`];
  await run('openssl', ['req', '-x509', ...curve, ...subject, '-keyout', key, '-out', cert]);
  return { cert, key };
}
