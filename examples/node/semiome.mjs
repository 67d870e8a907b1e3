// Asks a Semiome server from the command line, and learns from the server itself what can be asked.

import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { credentials, loadPackageDefinition, Metadata, status } from '@grpc/grpc-js';
import { loadFileDescriptorSetFromBuffer } from '@grpc/proto-loader';
import protobuf from 'protobufjs';
import 'protobufjs/ext/descriptor/index.js';
import { detailsOf, Health, ServerReflection, STYLE } from './standard.mjs';

const USAGE = `node semiome.mjs COMMAND [options]

  health                                   does it answer?
  search --video ID [--k N] [--group-by clip|video|patient]
                                           what resembles a stored video?
  classify --video ID                      is it temporal or extratemporal?
  stream ID...                             the same of many, in one call

  --address HOST:PORT   of the server (localhost:50051)
  --ca FILE             who signs the server's certificate, PEM; without it nothing is encrypted
  --token-file FILE     says who you are; needs --ca
  --timeout SECONDS     how long to wait for a call (30)`;

const OPTIONS = {
  address: { type: 'string', default: 'localhost:50051' },
  ca: { type: 'string' },
  'token-file': { type: 'string' },
  timeout: { type: 'string', default: '30' },
  video: { type: 'string' },
  k: { type: 'string' },
  'group-by': { type: 'string', default: 'clip' },
};

const GROUPS = ['clip', 'video', 'patient'];

class UsageError extends Error {}

class Caller {
  constructor(options) {
    this.address = options.address;
    this.timeoutMs = 1000 * wholeNumber('timeout', options.timeout);
    this.credentials = options.ca ? credentials.createSsl(readFileSync(options.ca)) : credentials.createInsecure();
    this.metadata = new Metadata();
    if (options['token-file']) {
      if (!options.ca) throw new UsageError('--token-file needs --ca: a token is not sent in the clear');
      this.metadata.set('authorization', `Bearer ${readFileSync(options['token-file'], 'utf8').trim()}`);
    }
  }

  // A client of one service, for one call.
  client(Service) {
    return new Service(this.address, this.credentials);
  }

  get deadline() {
    return { deadline: Date.now() + this.timeoutMs };
  }

  // One message there, one back.
  ask(Service, method, request) {
    const client = this.client(Service);
    return new Promise((resolve, reject) => {
      client[method](request, this.metadata, this.deadline, (error, answer) => (error ? reject(error) : resolve(answer)));
    }).finally(() => client.close());
  }

  // Many messages there, and an answer to each as it comes: the next one is sent when the last is answered.
  async *converse(Service, method, requests) {
    const client = this.client(Service);
    const call = client[method](this.metadata, this.deadline);
    call.on('error', () => {}); // it is thrown below; one that comes after the last answer is of no account
    try {
      const waiting = requests[Symbol.iterator]();
      const send = ({ done, value }) => (done ? call.end() : call.write(value));
      send(waiting.next());
      for await (const answer of call) {
        yield answer;
        send(waiting.next());
      }
    } finally {
      call.cancel();
      client.close();
    }
  }

  // A service by its full name, as the server describes it: its file and all that this imports.
  async learn(name) {
    const files = new Map();
    const take = async (question) => {
      for await (const answer of this.converse(ServerReflection, 'ServerReflectionInfo', [question])) {
        const { error_response: refused, file_descriptor_response: found } = answer;
        if (refused) throw Object.assign(new Error(refused.error_message), { code: refused.error_code });
        for (const bytes of found.file_descriptor_proto) {
          files.set(protobuf.descriptor.FileDescriptorProto.decode(bytes).name, bytes);
        }
      }
    };
    await take({ file_containing_symbol: name });
    for (const missing of imports(files)) if (!files.has(missing)) await take({ file_by_filename: missing });
    const image = protobuf.descriptor.FileDescriptorSet.encode({
      file: [...files.values()].map((bytes) => protobuf.descriptor.FileDescriptorProto.decode(bytes)),
    });
    const learned = loadPackageDefinition(loadFileDescriptorSetFromBuffer(Buffer.from(image.finish()), STYLE));
    return name.split('.').reduce((part, key) => part[key], learned);
  }
}

// Names of all files that the given ones import; grows as `files` does.
function* imports(files) {
  for (const bytes of files.values()) yield* protobuf.descriptor.FileDescriptorProto.decode(bytes).dependency;
}

const COMMANDS = {
  async health(caller) {
    return caller.ask(Health, 'Check', {});
  },

  async search(caller, options) {
    const request = {
      query: { video_id: required('video', options.video) },
      options: { group_by: `GROUP_BY_${oneOf('group-by', options['group-by'], GROUPS).toUpperCase()}` },
    };
    if (options.k !== undefined) request.options.k = wholeNumber('k', options.k);
    const Retrieval = await caller.learn('semiome.v1.RetrievalService');
    return caller.ask(Retrieval, 'Search', request);
  },

  async classify(caller, options) {
    const request = { item: { video_id: required('video', options.video) } };
    const Classification = await caller.learn('semiome.v1.ClassificationService');
    return caller.ask(Classification, 'Classify', request);
  },

  async *stream(caller, options, ids) {
    if (ids.length === 0) throw new UsageError('stream needs at least one ID');
    const Classification = await caller.learn('semiome.v1.ClassificationService');
    const requests = ids.map((id) => ({ items: [{ video_id: id }] }));
    yield* caller.converse(Classification, 'ClassifyStream', requests);
  },
};

function required(name, text) {
  if (!text) throw new UsageError(`--${name} is missing`);
  return text;
}

function oneOf(name, text, choices) {
  if (!choices.includes(text)) throw new UsageError(`--${name} must be ${choices.join(' or ')}, got ${text}`);
  return text;
}

function wholeNumber(name, text) {
  if (!/^\d{1,9}$/.test(text)) throw new UsageError(`--${name} must be a whole number, got ${text}`);
  return Number(text);
}

async function main() {
  const { values: options, positionals } = parseArgs({ options: OPTIONS, allowPositionals: true });
  const [command, ...ids] = positionals;
  if (!Object.hasOwn(COMMANDS, command ?? '')) throw new UsageError('expected health, search, classify or stream');
  const said = COMMANDS[command](new Caller(options), options, ids);
  if (Symbol.asyncIterator in said) {
    for await (const answer of said) console.log(JSON.stringify(answer)); // one a line
  } else {
    console.log(JSON.stringify(await said, null, 2));
  }
}

try {
  await main();
} catch (error) {
  if (error instanceof UsageError || error.code?.startsWith?.('ERR_PARSE_ARGS')) {
    console.error(`${error.message}\n\n${USAGE}`);
    process.exitCode = 2;
  } else {
    const code = status[error.code] ?? error.code ?? 'UNKNOWN';
    const said = { code, message: error.details ?? error.message, details: detailsOf(error) };
    console.error(JSON.stringify(said, null, 2));
    process.exitCode = 1;
  }
}
