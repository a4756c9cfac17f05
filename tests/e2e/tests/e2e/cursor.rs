//! A cursor that stays open while everything under it is rewritten gives each row of its snapshot once, in order.

use std::collections::BTreeSet;

use sealvec_e2e::{Cluster, Random, data, one, run};

#[test]
fn an_open_cursor_outlives_the_lists_it_reads() {
    let cluster = Cluster::start("cursor", &["autovacuum=off"]);
    let mut writer = cluster.client();
    run(&mut writer, "DO $$ BEGIN PERFORM sealvec.create_key_ring('notes'); END $$");
    let vectors = data::vectors().cut(6_000, 48);
    data::table(&mut writer, "docs", "notes", &vectors);
    run(&mut writer, "CREATE INDEX docs_l2 ON docs USING sealed_ivf (embedding)");
    run(&mut writer, "INSERT INTO docs SELECT id + 10000, embedding FROM docs WHERE id < 300"); // some in L0 and tail

    let mut random = Random::new(11);
    for round in 0..3 {
        let mut reader = cluster.client();
        let visible: BTreeSet<i32> =
            writer.query("SELECT id FROM docs", &[]).expect("rows").iter().map(|row| row.get(0)).collect();
        run(&mut reader, "SET enable_seqscan = off; SET sealvec.probes = 32768; BEGIN");
        run(
            &mut reader,
            "DECLARE near CURSOR FOR SELECT id, embedding <-> (SELECT embedding FROM docs WHERE id = 17) AS distance
                 FROM docs ORDER BY embedding <-> (SELECT embedding FROM docs WHERE id = 17)",
        );
        let mut rows = reader.query("FETCH 40 FROM near", &[]).expect("the first rows");
        let mut next = 20_000 * (round + 1);
        while rows.len() < visible.len() {
            // Rows go, rows come, lists are split and replaced, pages are freed and taken again.
            let (from, to) = (random.below(6_000), random.below(400));
            run(&mut writer, &format!("DELETE FROM docs WHERE id BETWEEN {from} AND {from} + {to} AND id <> 17"));
            run(
                &mut writer,
                &format!("INSERT INTO docs SELECT id + {next}, embedding FROM docs WHERE id BETWEEN 100 AND 400"),
            );
            next += 1_000;
            for statement in
                ["VACUUM docs", "SELECT sealvec.train('docs_l2')", "SELECT sealvec.merge('docs_l2')", "VACUUM docs"]
            {
                run(&mut writer, statement);
            }
            let more = reader.query("FETCH 900 FROM near", &[]).expect("further rows");
            if more.is_empty() {
                break;
            }
            rows.extend(more);
        }
        let ids: BTreeSet<i32> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(ids.len(), rows.len(), "round {round}: a row came twice");
        assert!(ids == visible, "round {round}: {} of {} rows came", ids.len(), visible.len());
        let distances: Vec<f64> = rows.iter().map(|row| row.get(1)).collect();
        assert!(distances.windows(2).all(|pair| pair[0] <= pair[1] + 1e-6), "round {round}: in order");
        drop(reader);
        run(&mut writer, "VACUUM docs");
        let count: i64 = one(&mut writer, "SELECT count(*) FROM docs");
        assert_eq!(one::<i64>(&mut writer, "SELECT sealvec.verify_index('docs_l2')"), count, "round {round}");
    }
    cluster.log_is_clean();
}
