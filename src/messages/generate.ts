import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { acknowledgementSchema } from './ack.js';
import { asyncApi, jsonSchema } from './asyncapi.js';
import { eventSchema } from './events.js';
import { hostEntrySchema } from './host-entry.js';
import { namesPayload, programsPayload } from './payload.js';
import { refusalSchema } from './refusal.js';
import { hostDataSchema } from './snapshot.js';

/* Writes schemas/ from the zod schemas: node dist/src/messages/generate.js */

/** Every generated file, by its name in schemas/. */
export function generateSchemas(): ReadonlyMap<string, string> {
  const { version } = JSON.parse(readFileSync(join(projectRoot(), 'package.json'), 'utf8')) as { version: string };
  const documents = {
    'deploy.json': jsonSchema(
      programsPayload.meta({
        title: 'Deploy',
        description: 'The whole desired state of the host. Programs that are not in it are removed',
      }),
    ),
    'add.json': jsonSchema(
      programsPayload.meta({ title: 'Add', description: 'Programs in addition to the desired ones' }),
    ),
    'delete.json': jsonSchema(
      namesPayload.meta({
        title: 'Delete',
        description: 'Programs to remove, by name. An unknown name is not an error',
      }),
    ),
    'acknowledgement.json': jsonSchema(acknowledgementSchema),
    'snapshot.json': jsonSchema(hostDataSchema),
    'event.json': jsonSchema(eventSchema),
    'host.json': jsonSchema(hostEntrySchema),
    'refusal.json': jsonSchema(refusalSchema),
    'asyncapi.json': asyncApi(version),
  };
  return new Map(
    Object.entries(documents).map(([name, document]) => [name, `${JSON.stringify(document, undefined, 2)}\n`]),
  );
}

/** The folder with package.json, above this file wherever it was built. */
export function projectRoot(): string {
  let dir = import.meta.dirname;
  while (!existsSync(join(dir, 'package.json'))) {
    const parent = dirname(dir);
    if (parent === dir) throw new Error(`No package.json above ${import.meta.dirname}`);
    dir = parent;
  }
  return dir;
}

if (process.argv[1] === import.meta.filename) {
  const folder = join(projectRoot(), 'schemas');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of generateSchemas()) writeFileSync(join(folder, name), text);
}
