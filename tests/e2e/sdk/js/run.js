// Every call of the JavaScript SDK and of its LangChain vector store against a running sidecar that holds no index.
// Takes SEALVEC_URL and SEALVEC_API_KEY (the root key) from the environment; prints `ok` at the end.
const { secrets, written } = require('./setting');
const { Client, EncryptedIndex, CyborgVectorStore } = require('cyborgdb');

// Public methods that were called; private ones are marked so in the SDK's own types, and JavaScript does not know it.
const PRIVATE = /^(constructor|handleApiError|isObject|has|extract|describeIndex|generateId|initializeIndex|normalizeScore|cosineSimilarity|_)/;
const missing = new Set();
for (const owner of [Client, EncryptedIndex, CyborgVectorStore]) {
  for (const name of Object.getOwnPropertyNames(owner.prototype).filter((name) => !PRIVATE.test(name))) {
    const label = `${owner.name}.${name}`;
    const original = owner.prototype[name];
    missing.add(label);
    owner.prototype[name] = function (...words) {
      const came = original.apply(this, words);
      Promise.resolve(came).then(() => missing.delete(label), () => {});
      return came;
    };
  }
}

(async () => {
  for (const [group, { calls, client }] of Object.entries({ client: require('./client'), store: require('./store') })) {
    const begun = Date.now();
    for (const call of calls) {
      await call();
      const left = await require('./client').client().listIndexes();
      if (left.length) throw new Error(`${call.name} left ${left}`);
    }
    console.logThrough(`${group}: ${calls.length} groups of calls in ${((Date.now() - begun) / 1000).toFixed(1)} s`);
  }
  if (missing.size) throw new Error(`never called: ${[...missing]}`);
  for (const secret of secrets) {
    if (written.some((line) => line.toLowerCase().includes(secret.toLowerCase()))) throw new Error('the SDK was told a key by an error');
  }
  console.logThrough('ok');
})().catch((error) => {
  console.errorThrough(error);
  process.exit(1);
});
