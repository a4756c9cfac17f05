// What the scripts share: where the server is, and how a refusal must look. Prints no key.
const assert = require('node:assert/strict');

const URL = process.env.SEALVEC_URL;
const ROOT_KEY = process.env.SEALVEC_API_KEY;
const secrets = new Set([ROOT_KEY]);

// The SDK writes debug lines and each error, with its stack, to the console before it throws it.
const written = [];
for (const method of ['log', 'info', 'warn', 'error']) {
  const original = console[method].bind(console);
  console[method] = (...words) => written.push(words.map(String).join(' '));
  console[`${method}Through`] = original;
}

function newKey(Client) {
  const key = Client.generateKey();
  secrets.add(Buffer.from(key).toString('hex'));
  return key;
}

// SDK 0.14 reads an error's status and nothing of its body.
async function refused(status, call, words = '') {
  let came;
  try {
    came = await call();
  } catch (error) {
    const text = String(error.message);
    if (status !== null) assert.match(text, new RegExp(`\\b${status}\\b`), `expected ${status}: ${text}`);
    assert.ok(text.includes(words), `expected ${words} in ${text}`);
    for (const secret of secrets) assert.ok(!text.toLowerCase().includes(secret.toLowerCase()), 'an error repeats a key');
    return error;
  }
  throw new Error(`expected ${status}, came ${JSON.stringify(came)}`);
}

module.exports = { URL, ROOT_KEY, newKey, refused, secrets, written };
