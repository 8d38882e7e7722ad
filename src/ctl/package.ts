import { type Command, Option } from 'commander';
import { STREAMS } from '../messages/subjects.js';
import { EXIT } from './exit.js';
import type { CommonOptions } from './options.js';
import type { PackageOptions } from './package-places.js';
import { pushPackages } from './package-push.js';
import {
  type BuildOptions,
  buildPackage,
  listPackages,
  makeKeys,
  signPackages,
  type VerifyOptions,
  verifyPackage,
} from './package-work.js';
import { type Exit, print, type Terminal } from './session.js';
import { table } from './table.js';

const BUCKET = `nats://${STREAMS.packages}`;

/** Adds `package build|sign|verify|list|push|keygen`. */
export function addPackageCommands(program: Command, terminal: Terminal, exit: Exit): void {
  const group = program
    .command('package')
    .helpCommand(false)
    .summary('build, sign, verify and publish packages')
    .description(
      'Packages and their repositories. A repository is a folder that holds <name>/<version>/<platform>/<artifact>, or an object store on NATS.',
    );
  const done = () => exit(EXIT.done);

  group
    .command('build')
    .summary('pack a folder into a repository')
    .description('Pack a folder into a repository, together with its digest and, if a key is given, its signature.')
    .argument('<folder>', 'folder to pack; the same content always gives the same package')
    .argument('<name>', 'name of the program')
    .argument('<version>', 'version of the program; the content of a version never changes')
    .addOption(repository('folder of the repository'))
    .option('--platform <name>', 'codename of the distribution that the package is for', 'any')
    .option('--artifact <file>', 'file name of the archive (default: <name>.tar.gz)')
    .option('--key <file>', 'private key to sign with')
    .addHelpText('after', '\nExample:\n  $ l3afctl package build build/port-drop port-drop 2.0 --key release.key')
    .action(async (folder: string, name: string, version: string, _options, command: Command) => {
      const options: BuildOptions = command.optsWithGlobals();
      const built = await buildPackage(folder, name, version, options);
      print(built, options, terminal, ({ path, files, bytes, digest, signed }) => [
        `${path}: ${files} ${files === 1 ? 'file' : 'files'}, ${bytes} bytes${signed ? ', signed' : ''}`,
        `sha256:${digest}`,
      ]);
      done();
    });

  group
    .command('sign')
    .summary('add a signature to packages')
    .description('Add a signature to packages in a repository folder.')
    .argument('<package...>', '<name>/<version>/<platform>/<artifact>, or the beginning of it')
    .addOption(repository('folder of the repository'))
    .requiredOption('--key <file>', 'private key')
    .action(async (selectors: string[], _options, command: Command) => {
      const options: BuildOptions & { readonly key: string } = command.optsWithGlobals();
      const signed = await signPackages(selectors, options.repo, options.key);
      print(signed, options, terminal, (paths) => paths.map((path) => `${path}: signed`));
      done();
    });

  group
    .command('verify')
    .summary('check a package as an agent would')
    .description('Fetch a package and check it as an agent would: its digest, its signature and its archive.')
    .argument('<package>', '<name>/<version>/<platform>/<artifact>')
    .addOption(repository('URL or folder of the repository'))
    .option('--trust <keys>', 'public keys, or files of them, separated by commas; one must have signed the package')
    .addOption(
      new Option('--repo-tls-ca <file>', 'CA certificates to verify an https repository with').env('L3AF_REPO_TLS_CA'),
    )
    .action(async (path: string, _options, command: Command) => {
      const options: VerifyOptions = command.optsWithGlobals();
      const verified = await verifyPackage(path, options);
      print(verified, options, terminal, ({ digest, signature, files }) => [
        `sha256:${digest}, ${signature}`,
        ...files.map(
          ({ path: file, size, executable }) => `  ${file}  ${size} bytes${executable ? ', executable' : ''}`,
        ),
      ]);
      done();
    });

  group
    .command('list')
    .summary('list the packages of a repository')
    .description('List the packages of a repository.')
    .addOption(repository('folder of the repository, or nats://<bucket>'))
    .action(async (_options, command: Command) => {
      const options: PackageOptions = command.optsWithGlobals();
      const columns = [
        { title: 'NAME' },
        { title: 'VERSION' },
        { title: 'PLATFORM' },
        { title: 'ARTIFACT' },
        { title: 'BYTES', align: 'right' as const },
        { title: 'SIGNED' },
      ];
      print(await listPackages(options.repo, options), options, terminal, (packages, style, width) => {
        if (packages.length === 0) return [`There are no packages in ${options.repo}.`];
        const rows = packages.map((one) => [
          one.name,
          one.version,
          one.platform,
          one.artifact,
          String(one.bytes),
          one.signed ? 'yes' : 'no',
        ]);
        return table(columns, rows, style, width);
      });
      done();
    });

  group
    .command('push')
    .summary('copy packages to an object store on NATS')
    .description(
      'Copy packages from a repository folder to an object store on NATS, and create the object store if it does not exist.',
    )
    .argument('<package...>', '<name>/<version>/<platform>/<artifact>, or the beginning of it')
    .addOption(repository('folder of the repository'))
    .option('--to <bucket>', 'the object store', BUCKET)
    .addHelpText('after', '\nExample:\n  $ l3afctl package push ratelimiting/1.2 --repo /srv/l3af')
    .action(async (selectors: string[], _options, command: Command) => {
      const options: PackageOptions & { readonly to: string } = command.optsWithGlobals();
      const pushed = await pushPackages(selectors, options.repo, options.to, options);
      print(pushed, options, terminal, (all) => all.map(({ path, result }) => `${path}: ${result}`));
      done();
    });

  group
    .command('keygen')
    .summary('create a key pair for signing packages')
    .description(
      'Create a key pair for signing packages. <file> is the private key; <file>.pub is the public key for the agents to trust.',
    )
    .argument('<file>', 'file for the private key; must not exist yet')
    .action(async (file: string, _options, command: Command) => {
      const options: CommonOptions = command.optsWithGlobals();
      print(await makeKeys(file), options, terminal, ({ privateKey, publicKeyFile, publicKey }) => [
        `${privateKey}: private key, keep it secret`,
        `${publicKeyFile}: public key, for trusted_keys: ${publicKey}`,
      ]);
      done();
    });
}

function repository(description: string): Option {
  return new Option('--repo <place>', description).env('L3AF_REPO_URL').makeOptionMandatory();
}
