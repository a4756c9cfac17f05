// node-pg: vectors as text and arrays, unnamed and named prepared statements.
const { Client } = require('pg');
const [host, port] = process.argv.slice(2);
const VECTOR = [0.1, -1.5, 3.0e-5, 7.25];

function check(what, holds) {
  if (!holds) throw new Error(what);
}

(async () => {
  const client = new Client({ host, port: Number(port), user: 'postgres', database: 'e2e' });
  await client.connect();
  const text = JSON.stringify(VECTOR);
  for (let n = 0; n < 8; n++) {
    await client.query('INSERT INTO nodepg VALUES ($1, $2)', [`text ${n}`, text]);
    await client.query('INSERT INTO nodepg VALUES ($1, $2)', [`array ${n}`, VECTOR]);
    await client.query({ name: 'insert', text: 'INSERT INTO nodepg VALUES ($1, $2::real[])', values: [`cast ${n}`, VECTOR] });
  }
  const { rows } = await client.query('SELECT id, sealvec.open(embedding) AS elements, embedding FROM nodepg');
  check('24 rows', rows.length === 24);
  for (const row of rows) {
    check(JSON.stringify(row), row.elements.every((x, i) => Math.abs(x - VECTOR[i]) < 1e-6));
    check(row.embedding, row.embedding.startsWith('sealvec1.'));
  }
  for (const parameter of [text, VECTOR, rows[0].embedding]) {
    for (let n = 0; n < 7; n++) {
      const near = await client.query({
        name: 'near',
        text: 'SELECT id, embedding <-> $1 AS distance FROM nodepg ORDER BY embedding <-> $1 LIMIT 1',
        values: [parameter],
      });
      check(JSON.stringify(near.rows), near.rows[0].distance < 1e-6);
    }
  }
  await client.query("UPDATE nodepg SET embedding = $1 WHERE id = 'array 0'", [rows[5].embedding]);
  await client.end();
  console.log('ok');
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
