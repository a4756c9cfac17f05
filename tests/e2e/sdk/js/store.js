// The SDK's LangChain vector store over an embedding of our own: letters counted, the same each time.
const assert = require('node:assert/strict');
const { Embeddings } = require('@langchain/core/embeddings');
const { Client, CyborgVectorStore } = require('cyborgdb');
const { URL, ROOT_KEY, newKey, secrets } = require('./setting');

class Letters extends Embeddings {
  constructor() {
    super({});
  }
  async embedQuery(text) {
    const vector = new Array(27).fill(0.01);
    for (const letter of text.toLowerCase()) {
      const place = letter.charCodeAt(0) - 97;
      vector[place >= 0 && place < 26 ? place : 26] += 1;
    }
    const norm = Math.hypot(...vector);
    return vector.map((x) => x / norm);
  }
  async embedDocuments(texts) {
    return Promise.all(texts.map((text) => this.embedQuery(text)));
  }
}

const TEXTS = ['aaa aab aba', 'aaa aab abb', 'zzz zzy zyx', 'hello world', 'postgres pages'];
const METADATAS = TEXTS.map((_, n) => ({ n, kind: n < 2 ? 'a' : 'other' }));
const config = (more) => ({ indexName: 'chain', indexKey: newKey(Client), apiKey: ROOT_KEY, baseUrl: URL, ...more });

async function cosine(query) {
  const letters = new Letters();
  const asked = await letters.embedQuery(query);
  const rows = await letters.embedDocuments(TEXTS);
  return rows
    .map((row, n) => [n, row.reduce((sum, x, i) => sum + x * asked[i], 0)])
    .sort((a, b) => b[1] - a[1]);
}

async function remove(settings) {
  const client = new Client({ baseUrl: URL, apiKey: ROOT_KEY });
  await (await client.loadIndex({ indexName: settings.indexName, indexKey: settings.indexKey })).deleteIndex();
}

async function searches() {
  const settings = config({ dimension: 27 });
  const store = new CyborgVectorStore(new Letters(), settings);
  const ids = await store.addTexts(TEXTS, METADATAS, { ids: TEXTS.map((_, n) => `t${n}`) });
  assert.deepEqual(ids, ['t0', 't1', 't2', 't3', 't4']);
  assert.deepEqual((await store.listIds()).sort(), ids);
  for (const query of ['aaa', 'zebra zyx', 'pages']) {
    const expected = await cosine(query);
    const found = await store.similaritySearch(query, 3);
    assert.deepEqual(found.map((document) => document.pageContent), expected.slice(0, 3).map(([n]) => TEXTS[n]));
    assert.deepEqual(found[0].metadata, { ...METADATAS[expected[0][0]], id: `t${expected[0][0]}` });
    const scored = await store.similaritySearchWithScore(query, 5);
    scored.forEach(([document, score], place) => {
      assert.equal(document.pageContent, TEXTS[expected[place][0]]);
      assert.ok(Math.abs(score - (1 + expected[place][1]) / 2) < 1e-5, `${score}`);
    });
    const vector = await new Letters().embedQuery(query);
    const byVector = await store.similaritySearchVectorWithScore(vector, 2, { kind: 'other' });
    assert.deepEqual(byVector.map(([document]) => document.metadata.n), expected.map(([n]) => n).filter((n) => n >= 2).slice(0, 2));
  }
  assert.deepEqual((await store.similaritySearch('zzz', 5, { kind: 'a' })).map((document) => document.metadata.n).sort(), [0, 1]);
  const diverse = await store.maxMarginalRelevanceSearch('aaa aab', { k: 2, fetchK: 5, lambda: 0.1 });
  assert.equal(diverse.length, 2);
  assert.ok(diverse[0].metadata.n < 2 && diverse[1].metadata.n >= 2, 'the second is not the first once more');
  assert.deepEqual((await store.get(['t3', 'nobody'])).map((document) => document.pageContent), ['hello world']);
  await store.addDocuments([{ pageContent: 'one more', metadata: { n: 9 } }], { ids: ['more'] });
  const given = await new Letters().embedDocuments(['given']);
  await store.addVectors(given, [{ pageContent: 'given vector', metadata: {} }], { ids: ['given'] });
  assert.equal((await store.similaritySearch('given', 1))[0].pageContent, 'given vector');
  await store.delete({ ids: ['more', 'given'] });
  assert.equal((await store.listIds()).length, 5);
  const retrieved = await store.asRetriever({ k: 1 }).invoke('postgres pages');
  assert.equal(retrieved[0].pageContent, 'postgres pages');

  const again = await CyborgVectorStore.fromExistingIndex(new Letters(), settings);
  assert.equal((await again.similaritySearch('hello', 1))[0].pageContent, 'hello world');
  await remove(settings);
}

async function fromTextsAndDocuments() {
  for (const metric of ['cosine', 'euclidean', 'squared_euclidean']) {
    const settings = config({ metric });
    const store = await CyborgVectorStore.fromTexts(TEXTS, METADATAS, new Letters(), settings);
    const [[document, score]] = await store.similaritySearchWithScore('hello world', 1);
    assert.equal(document.pageContent, 'hello world');
    assert.ok(score > 0.99, `${metric}: ${score}`);
    await remove(settings);
  }
  const key = CyborgVectorStore.generateKey();
  secrets.add(Buffer.from(key).toString('hex'));
  const settings = { ...config({}), indexKey: Buffer.from(key).toString('base64') };
  const documents = TEXTS.map((pageContent) => ({ pageContent, metadata: {} }));
  const store = await CyborgVectorStore.fromDocuments(documents, new Letters(), settings);
  assert.equal((await store.listIds()).length, 5);
  await remove({ ...settings, indexKey: key });
}

module.exports = { calls: [searches, fromTextsAndDocuments] };
