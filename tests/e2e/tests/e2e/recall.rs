//! With nothing set, a search finds at least 95 % of the true nearest rows, however the index came to be.

use postgres::Client;
use sealvec_e2e::answers::{cosine, kth, l2, nearest};
use sealvec_e2e::{Cluster, Matrix, Random, data, one, run};

const WANTED: f64 = 0.95;

/// A distance between two vectors.
type Measure = fn(&[f32], &[f32]) -> f64;

/// recall@10 over all queries, counting only rows for which `there` holds. Rows of equal distance count alike.
fn recall(client: &mut Client, table: &str, operator: &str, vectors: &Matrix, there: &[bool]) -> f64 {
    let measure: Measure = if operator == "<->" { l2 } else { cosine };
    let queries = data::queries();
    let mut found = 0;
    for query in 0..queries.rows() {
        let query = queries.row(query);
        let rows = nearest(client, table, operator, query, 10);
        assert_eq!(rows.len(), 10, "{table}: a full answer");
        let present = (0..vectors.rows()).filter(|row| there[*row]);
        let reach = kth(present.map(|row| measure(vectors.row(row), query)), 10) + 1e-6;
        let mut ids: Vec<i32> = rows.iter().map(|near| near.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 10, "{table}: no row twice");
        for near in &rows {
            assert!(there[near.id as usize], "{table}: row {} was deleted", near.id);
            let true_distance = measure(vectors.row(near.id as usize), query);
            assert!((true_distance - near.distance).abs() < 1e-5, "{table}: {near:?}, truly at {true_distance}");
            found += usize::from(true_distance <= reach);
        }
        for pair in rows.windows(2) {
            // The index measures in float32, the operator in float64: neighbours may differ by that rounding.
            assert!(pair[0].distance <= pair[1].distance + 1e-6, "{table} {operator}: out of order: {pair:?}");
        }
    }
    found as f64 / (10 * queries.rows()) as f64
}

fn holds(client: &mut Client, table: &str, operator: &str, vectors: &Matrix, there: &[bool]) {
    let begun = std::time::Instant::now();
    let recall = recall(client, table, operator, vectors, there);
    eprintln!("{table} {operator}: recall@10 {recall:.4} ({:.1} s)", begun.elapsed().as_secs_f64());
    assert!(recall >= WANTED, "{table} {operator}: recall@10 {recall}, expected {WANTED}");
}

/// The plan that a user gets with nothing set uses the index.
fn uses_the_index(client: &mut Client, table: &str, operator: &str) {
    let plan: Vec<String> = client
        .query(&format!("EXPLAIN SELECT id FROM {table} ORDER BY embedding {operator} (SELECT embedding FROM {table} WHERE id = 1) LIMIT 10"), &[])
        .expect("a plan")
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(plan.iter().any(|line| line.contains("embedding_idx")), "{}", plan.join("\n"));
}

/// Row numbers topic by topic: by section of the archive, as a user loads one source after the other.
fn by_topic() -> Vec<usize> {
    let items = data::items();
    let section =
        |row: &usize| items[*row].split("\"section\":").nth(1).map(|rest| rest[..12.min(rest.len())].to_owned());
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(section);
    order
}

#[test]
fn recall_of_an_index_built_on_a_full_table() {
    let cluster = Cluster::start("recall-full", &[]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors();
    let mut there = vec![true; vectors.rows()];
    data::table(&mut client, "docs", "notes", &vectors);
    run(&mut client, "CREATE INDEX docs_embedding_idx ON docs USING sealed_ivf (embedding); ANALYZE docs");
    run(
        &mut client,
        "CREATE INDEX docs_embedding_idx16 ON docs USING sealed_ivf (embedding sealvec_cosine_ops) WITH (storage_precision = 'float16')",
    );
    for operator in ["<->", "<=>"] {
        uses_the_index(&mut client, "docs", operator);
        holds(&mut client, "docs", operator, &vectors, &there);
    }

    // 10 % deleted, vacuumed.
    let mut random = Random::new(1);
    let deleted = random.order(vectors.rows())[..vectors.rows() / 10].to_vec();
    for row in &deleted {
        there[*row] = false;
    }
    let ids: Vec<i32> = deleted.iter().map(|row| *row as i32).collect();
    client.execute("DELETE FROM docs WHERE id = ANY ($1)", &[&ids]).expect("deleted");
    for operator in ["<->", "<=>"] {
        holds(&mut client, "docs", operator, &vectors, &there);
    }
    run(&mut client, "VACUUM docs");
    for operator in ["<->", "<=>"] {
        holds(&mut client, "docs", operator, &vectors, &there);
    }
    for index in ["docs_embedding_idx", "docs_embedding_idx16"] {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT sealvec.verify_index('{index}')")), 9_000);
    }
    cluster.log_is_clean();
}

#[test]
fn recall_of_an_index_made_empty_and_filled_in_random_order() {
    made_empty_then_filled("random", Random::new(2).order(10_000));
}

#[test]
fn recall_of_an_index_made_empty_and_filled_topic_by_topic() {
    made_empty_then_filled("topics", by_topic());
}

fn made_empty_then_filled(name: &str, order: Vec<usize>) {
    let cluster = Cluster::start(&format!("recall-{name}"), &[]);
    let mut client = cluster.client();
    run(&mut client, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors();
    run(
        &mut client,
        "CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(384, notes));
         CREATE INDEX docs_embedding_idx ON docs USING sealed_ivf (embedding);
         CREATE INDEX docs_embedding_idx16 ON docs USING sealed_ivf (embedding sealvec_cosine_ops) WITH (storage_precision = 'float16')",
    );
    // As a user fills it: several transactions, not one load.
    for part in order.chunks(1500) {
        data::copy(&mut client, "docs", &vectors, part.iter().copied());
    }
    run(&mut client, "ANALYZE docs");
    let there = vec![true; vectors.rows()];
    for operator in ["<->", "<=>"] {
        uses_the_index(&mut client, "docs", operator);
        holds(&mut client, "docs", operator, &vectors, &there);
    }
    for index in ["docs_embedding_idx", "docs_embedding_idx16"] {
        assert_eq!(one::<i64>(&mut client, &format!("SELECT sealvec.verify_index('{index}')")), 10_000);
        let (lists, tail) = {
            let row = client
                .query_one("SELECT lists, rows_in_tail FROM sealvec.index_stats($1::text::regclass)", &[&index])
                .expect("stats");
            (row.get::<_, i32>(0), row.get::<_, i64>(1))
        };
        assert!(lists > 20 && tail < 1_000, "{index}: {lists} lists, {tail} rows in its tail");
    }
    cluster.log_is_clean();
}

#[test]
fn filters_give_full_answers_with_recall() {
    let cluster = Cluster::start("filters", &[]);
    let mut client = cluster.client();
    run(
        &mut client,
        "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$;
         CREATE TABLE docs (id int PRIMARY KEY, embedding sealvec(384, notes), item jsonb);
         CREATE TABLE items (id int PRIMARY KEY, item jsonb)",
    );
    let vectors = data::vectors();
    data::copy(&mut client, "docs", &vectors, 0..vectors.rows());
    let insert = client.prepare("INSERT INTO items SELECT $1, $2::text::jsonb").expect("prepared");
    let mut transaction = client.transaction().expect("begins");
    for (row, item) in data::items().iter().enumerate() {
        transaction.execute(&insert, &[&(row as i32), item]).expect("an item");
    }
    transaction.commit().expect("commits");
    run(
        &mut client,
        "UPDATE docs SET item = items.item FROM items WHERE items.id = docs.id;
         CREATE INDEX docs_embedding_idx ON docs USING sealed_ivf (embedding);
         ANALYZE docs",
    );
    let filters = client
        .query(
            "SELECT f->>'name', f->>'field', f->>'op', f->>'value', (f->>'matches')::int8,
                    CASE WHEN jsonb_typeof(f->'value') = 'array' THEN ARRAY(SELECT jsonb_array_elements_text(f->'value')) END
             FROM jsonb_array_elements($1::text::jsonb) WITH ORDINALITY AS a (f, n) ORDER BY n",
            &[&data::filters()],
        )
        .expect("filters are JSON");
    assert_eq!(filters.len(), 14);
    // The transaction that built the index had made a second version of each row: now the first ones go.
    run(&mut client, "VACUUM docs");
    let (queries, answers) = (data::queries(), data::filter_answers());
    let mut poor = Vec::new();
    for plan in ["", "SET enable_seqscan = off"] {
        run(&mut client, "RESET enable_seqscan");
        run(&mut client, plan);
        for (number, filter) in filters.iter().enumerate() {
            let name: &str = filter.get(0);
            let (field, op, value): (&str, &str, &str) = (filter.get(1), filter.get(2), filter.get(3));
            let list: Option<Vec<String>> = filter.get(5);
            let condition = match op {
                "eq" => format!("item->>'{field}' = '{value}'"),
                "in" => format!("item->>'{field}' IN ('{}')", list.expect("a list").join("','")),
                "gte" => format!("(item->>'{field}')::numeric >= {value}"),
                "lt" => format!("(item->>'{field}')::numeric < {value}"),
                "contains" => format!("item->'{field}' @> '[\"{value}\"]'"),
                "is_null" => format!("item->>'{field}' IS NULL"),
                other => panic!("unknown op {other}"),
            };
            let matches: i64 = filter.get(4);
            assert_eq!(
                one::<i64>(&mut client, &format!("SELECT count(*) FROM docs WHERE {condition}")),
                matches,
                "{name}"
            );
            let wanted = matches.min(10) as usize;
            let search = client
                .prepare(&format!(
                    "SELECT id FROM docs WHERE {condition} ORDER BY embedding <-> $1::real[]::sealvec LIMIT 10"
                ))
                .expect("prepared");
            // A filter that few rows pass makes the index give nearly every row: some queries are enough there.
            let every = if matches < 300 && !plan.is_empty() { 10 } else { 1 };
            let (mut found, mut asked) = (0, 0);
            for query in (0..queries.rows()).step_by(every) {
                let rows = client.query(&search, &[&queries.row(query)]).expect("an answer");
                assert_eq!(rows.len(), wanted, "{name}, query {query}, {plan}: a full answer");
                let exact = &answers[(number * queries.rows() + query) * 10..][..10];
                let last = exact[wanted - 1];
                let reach = l2(vectors.row(last as usize), queries.row(query)) + 1e-6;
                found += rows
                    .iter()
                    .filter(|row| l2(vectors.row(row.get::<_, i32>(0) as usize), queries.row(query)) <= reach)
                    .count();
                asked += wanted;
            }
            let recall = found as f64 / asked as f64;
            eprintln!("{name} {plan}: recall {recall:.4}");
            if recall < WANTED {
                poor.push(format!("{name} {plan}: recall {recall:.4}"));
            }
        }
    }
    assert!(poor.is_empty(), "expected {WANTED}: {poor:?}");
    cluster.log_is_clean();
}
