//! Filtered search: the data set's own filters in WHERE, with nothing set, and an ordinary index on each field that a
//! filter names, as whoever filters by it has: which way is taken is the planner's to choose.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{Engine, parameter};
use super::figure::Figure;
use super::measure::{DATABASE, Ground};
use super::times::Latencies;
use super::truth::{K, Truth};
use super::wire::Wire;
use crate::data::{Matrix, read_text};
use crate::run::step;

/// One query in so many is asked: a filter that few rows pass makes each cost as much as a scan.
const EVERY: usize = 4;

/// The fields that filters name, and their types.
const FIELDS: [(&str, &str); 8] = [
    ("section", "text"),
    ("priority", "text"),
    ("architecture", "text"),
    ("installed_size_kib", "bigint"),
    ("maintainer_domain", "text"),
    ("n_depends", "bigint"),
    ("homepage_host", "text"),
    ("tags", "text[]"),
];

/// A line of filters.json.
#[derive(Deserialize)]
struct Filter {
    name: String,
    field: String,
    op: String,
    value: Value,
}

#[derive(Serialize)]
pub struct Filtered {
    pub name: String,
    /// Rows that pass, and their share of all.
    pub matches: usize,
    pub selectivity: f64,
    pub recall: f64,
    /// Share of the answers with ten rows, or as many as pass.
    pub full: f64,
    pub latencies: Latencies,
    /// What the planner chose, with nothing set.
    pub plan: &'static str,
    /// The same of the rival.
    pub rival: Option<Box<Filtered>>,
}

/// The table that holds the fields for an engine, and its index of vectors.
fn names(engine: Engine) -> (String, String) {
    let table = format!("filtered_{}", engine.table());
    let index = format!("{table}_index");
    (table, index)
}

/// Makes a table with the items' fields and its indexes, and asks it with each filter of `data`; the same for `rival`.
/// Nothing where the set has none.
pub fn measure(ground: &Ground, data: &Path, rival: Option<Engine>) -> Result<Vec<Filtered>> {
    let Some(items) = items(data, ground.vectors.rows())? else {
        eprintln!("note: no filters.json with items in {}: no filtered search", data.display());
        return Ok(Vec::new());
    };
    let filters: Vec<Filter> = serde_json::from_str(&read_text(&data.join("filters.json"))?)?;
    fields(ground, &items)?;
    for engine in [Some(Engine::Sealed), rival].into_iter().flatten() {
        table(ground, engine)?;
    }
    let some: Vec<f32> = ground.queries.iter().step_by(EVERY).flatten().copied().collect();
    let queries = Matrix { dims: ground.queries.dims, values: some };
    let mut all = Vec::new();
    for filter in &filters {
        let passing = items.iter().map(|item| filter.passes(item)).collect::<Result<Vec<bool>>>()?;
        if passing.contains(&true) {
            all.push(step(&filter.name, || {
                let asked = Asked::new(ground, filter, &passing, &queries);
                let mut sealed = asked.of(Engine::Sealed)?;
                sealed.rival = rival.map(|rival| asked.of(rival)).transpose()?.map(Box::new);
                Ok(sealed)
            })?);
        } else {
            eprintln!("note: no row passes {}: not measured", filter.name);
        }
    }
    Ok(all)
}

/// The fields of each of the first `rows` items, if the set has any.
fn items(data: &Path, rows: usize) -> Result<Option<Vec<Value>>> {
    let path = ["items.jsonl.gz", "items.jsonl"].map(|name| data.join(name)).into_iter().find(|path| path.exists());
    let Some(path) = path.filter(|_| data.join("filters.json").exists()) else { return Ok(None) };
    let items = read_text(&path)?
        .lines()
        .take(rows)
        .map(|line| {
            let mut item: Value = serde_json::from_str(line).with_context(|| format!("in {}", path.display()))?;
            Ok(match item.get_mut("metadata") {
                Some(fields) => fields.take(),
                None => item, // the fields beside the id, as tests/data has them
            })
        })
        .collect::<Result<Vec<_>>>()?;
    ensure!(items.len() == rows, "{} has {} items for {rows} vectors", path.display(), items.len());
    Ok(Some(items))
}

fn fields(ground: &Ground, items: &[Value]) -> Result<()> {
    let columns: String = FIELDS.iter().map(|(name, kind)| format!(", {name} {kind}")).collect();
    ground.cluster.connect(DATABASE)?.batch_execute(&format!("CREATE UNLOGGED TABLE fields (id int{columns})"))?;
    let mut rows = String::new();
    for (id, item) in items.iter().enumerate() {
        let _ = write!(rows, "{id}");
        for (name, _) in FIELDS {
            rows.push('\t');
            rows.push_str(&copied(&item[name]));
        }
        rows.push('\n');
    }
    let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
    step("filling table fields", || wire.copy("COPY fields FROM STDIN", [rows]))
}

fn table(ground: &Ground, engine: Engine) -> Result<()> {
    let mut client = ground.cluster.connect(DATABASE)?;
    let (table, index) = names(engine);
    let columns: String = FIELDS.iter().map(|(name, _)| format!(", {name}")).collect();
    step(&format!("filling table {table} and its indexes"), || {
        client.batch_execute(&format!(
            "CREATE TABLE {table} AS SELECT id, embedding{columns} FROM {} JOIN fields USING (id) ORDER BY id",
            engine.table()
        ))?;
        for (name, kind) in FIELDS {
            let method = if kind.ends_with("[]") { "gin" } else { "btree" };
            client.batch_execute(&format!("CREATE INDEX {table}_{name} ON {table} USING {method} ({name})"))?;
        }
        client.batch_execute("SET maintenance_work_mem = '1GB'")?;
        client.batch_execute(&engine.create_index(&index, &table, ground.metric, ground.precision))?;
        client.batch_execute(&format!("VACUUM ANALYZE {table}")).map_err(Into::into)
    })
}

/// A field as COPY's text.
fn copied(value: &Value) -> String {
    match value {
        Value::Null => String::from("\\N"),
        Value::String(text) => escaped(text),
        Value::Array(words) => {
            let quoted = words.iter().map(|word| {
                let word = word.as_str().unwrap_or_default().replace('\\', "\\\\").replace('"', "\\\"");
                format!("\"{word}\"")
            });
            escaped(&format!("{{{}}}", quoted.collect::<Vec<_>>().join(",")))
        }
        other => other.to_string(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\t', "\\t").replace('\n', "\\n").replace('\r', "\\r")
}

/// One filter, and the true answers to it.
struct Asked<'a> {
    ground: &'a Ground<'a>,
    filter: &'a Filter,
    passing: &'a [bool],
    queries: &'a Matrix,
    matches: usize,
    truth: Truth,
}

impl<'a> Asked<'a> {
    fn new(ground: &'a Ground, filter: &'a Filter, passing: &'a [bool], queries: &'a Matrix) -> Self {
        let rows = ground.vectors.iter().zip(passing).filter(|(_, passes)| **passes).flat_map(|(row, _)| row);
        let matching = Matrix { dims: ground.vectors.dims, values: rows.copied().collect() };
        let truth = Truth::compute(ground.metric, &matching, queries);
        Self { ground, filter, passing, queries, matches: matching.rows(), truth }
    }

    fn of(&self, engine: Engine) -> Result<Filtered> {
        let Self { ground, filter, passing, queries, matches, truth } = self;
        let (table, index) = names(engine);
        let sql = engine.filtered_query(&table, ground.metric, &format!("WHERE {}", filter.condition()?));
        let mut wire = Wire::connect(&ground.cluster.socket(), ground.cluster.port()?, DATABASE)?;
        ground.answer_beside_us(wire.pid);
        let beside = ground.hold();
        wire.execute("SET plan_cache_mode = force_generic_plan")?;
        wire.prepare(&sql, &[engine.parameter_type(ground.types)])?;
        let (mut found, mut full, mut rows) = (0, 0, Vec::new());
        let mut times: Vec<Duration> = Vec::new();
        let wanted = (*matches).min(K);
        wire.query(&parameter(queries.row(0)), &mut rows)?; // opens the directory
        for (number, query) in queries.iter().enumerate() {
            let parameter = parameter(query);
            let begun = Instant::now();
            wire.query(&parameter, &mut rows)?;
            times.push(begun.elapsed());
            ensure!(rows.iter().all(|&row| passing[row as usize]), "a row that does not pass {}", filter.name);
            full += usize::from(rows.len() == wanted);
            found += truth.found(number, query, &rows, ground.vectors);
        }
        drop(beside);
        Ok(Filtered {
            name: filter.name.clone(),
            matches: *matches,
            selectivity: *matches as f64 / passing.len() as f64,
            recall: found as f64 / (wanted * queries.rows()) as f64,
            full: full as f64 / queries.rows() as f64,
            latencies: Latencies::of(&times),
            plan: plan(ground, engine, &sql, &index)?,
            rival: None,
        })
    }
}

/// The plan with the parameter unknown, as the timed statement has it.
fn plan(ground: &Ground, engine: Engine, sql: &str, index: &str) -> Result<&'static str> {
    let kind = if engine == Engine::Sealed { "sealvec" } else { "vector" };
    let mut client = ground.cluster.connect(DATABASE)?;
    client.batch_execute("SET plan_cache_mode = force_generic_plan")?;
    client.batch_execute(&format!("PREPARE search ({kind}) AS {sql}"))?;
    let lines = client.query("EXPLAIN EXECUTE search ('[1]')", &[])?;
    let uses = |what: &str| lines.iter().any(|line| line.get::<_, &str>(0).contains(what));
    Ok(if uses(&format!("using {index}")) {
        "index"
    } else if uses("Seq Scan") {
        "sequential"
    } else {
        "filter" // the field's index, and a sort
    })
}

impl Filter {
    fn condition(&self) -> Result<String> {
        ensure!(FIELDS.iter().any(|(name, _)| *name == self.field), "filters.json names field {}", self.field);
        let field = &self.field;
        let literal = |value: &Value| match value {
            Value::String(text) => format!("'{}'", text.replace('\'', "''")),
            other => other.to_string(),
        };
        let list = || self.value.as_array().map(|list| list.iter().map(literal).collect::<Vec<_>>().join(", "));
        Ok(match self.op.as_str() {
            "eq" => format!("{field} = {}", literal(&self.value)),
            "in" => format!("{field} IN ({})", list().context("`in` takes a list")?),
            "gte" => format!("{field} >= {}", literal(&self.value)),
            "lt" => format!("{field} < {}", literal(&self.value)),
            "contains" => format!("{field} @> ARRAY[{}]", literal(&self.value)),
            "is_null" => format!("{field} IS NULL"),
            other => bail!("filters.json has an operation that this does not know: {other}"),
        })
    }

    /// The same, decided here.
    fn passes(&self, item: &Value) -> Result<bool> {
        let value = &item[&self.field];
        let numbers = || Some((value.as_f64()?, self.value.as_f64()?));
        Ok(match self.op.as_str() {
            "eq" => *value == self.value,
            "in" => self.value.as_array().is_some_and(|list| list.contains(value)),
            "gte" => numbers().is_some_and(|(value, limit)| value >= limit),
            "lt" => numbers().is_some_and(|(value, limit)| value < limit),
            "contains" => value.as_array().is_some_and(|list| list.contains(&self.value)),
            "is_null" => value.is_null(),
            other => bail!("filters.json has an operation that this does not know: {other}"),
        })
    }
}

pub fn print(all: &[Filtered]) {
    if all.is_empty() {
        return;
    }
    println!(
        "\nfiltered search, nothing set, top {K}; a btree index on each field, GIN on tags, beside that of the vectors"
    );
    println!(
        "plan: index = the vectors', in order; filter = the field's, then a sort; sequential = neither, then a sort"
    );
    print!(
        "  {:40} {:>9} {:>9} {:>7} {:>7} {:>9} {:>9} {:>9}  {:10}",
        "filter", "rows", "share", "recall", "full", "p50 ms", "p99 ms", "max ms", "plan"
    );
    let rival = all.iter().any(|filtered| filtered.rival.is_some());
    println!("{}", if rival { "   hnsw, same indexes: recall, full, p50 ms, plan" } else { "" });
    for filtered in all {
        print!(
            "  {:40} {:9} {:8.2}% {:7.4} {:7.4} {:9.2} {:9.2} {:9.2}  {:10}",
            filtered.name,
            filtered.matches,
            100.0 * filtered.selectivity,
            filtered.recall,
            filtered.full,
            filtered.latencies.p50_ms,
            filtered.latencies.p99_ms,
            filtered.latencies.max_ms,
            filtered.plan
        );
        match &filtered.rival {
            Some(rival) => {
                let Filtered { recall, full, latencies, plan, .. } = &**rival;
                println!("   {recall:.4} {full:.4} {:8.2}  {plan}", latencies.p50_ms);
            }
            None => println!(),
        }
    }
}

pub fn figures(all: &[Filtered]) -> Vec<Figure> {
    if all.is_empty() {
        return Vec::new();
    }
    let least = |value: fn(&Filtered) -> f64| {
        all.iter().min_by(|a, b| value(a).total_cmp(&value(b))).map(|filtered| (value(filtered), &filtered.name))
    };
    let mut figures = Vec::new();
    for (name, limit, wide) in
        [("filters of 1 % of rows or more, slowest p50", 5.0, true), ("filters below 1 %, slowest p50", 30.0, false)]
    {
        let group = all.iter().filter(|filtered| (filtered.selectivity >= 0.01) == wide);
        if let Some(slowest) = group.max_by(|a, b| a.latencies.p50_ms.total_cmp(&b.latencies.p50_ms)) {
            figures.push(Figure::lower(name, slowest.latencies.p50_ms, "ms").wanted(limit).note(&slowest.name));
        }
    }
    if let Some((recall, name)) = least(|filtered| filtered.recall) {
        figures.push(Figure::higher("filters, lowest recall", recall, "").wanted(0.95).note(name));
    }
    if let Some((full, name)) = least(|filtered| filtered.full) {
        figures.push(Figure::higher("filters, lowest share of full answers", full, "").wanted(1.0).note(name));
    }
    figures
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filter(field: &str, op: &str, value: Value) -> Filter {
        Filter { name: String::new(), field: field.to_owned(), op: op.to_owned(), value }
    }

    #[test]
    fn what_a_filter_says_in_sql_and_here() {
        let item = json!({"section": "libs", "n_depends": 20, "homepage_host": null, "tags": ["a::b", "c"]});
        for (filter, sql, passes) in [
            (filter("section", "eq", json!("libs")), "section = 'libs'", true),
            (filter("section", "eq", json!("o'k")), "section = 'o''k'", false),
            (filter("section", "in", json!(["perl", "libs"])), "section IN ('perl', 'libs')", true),
            (filter("n_depends", "gte", json!(20)), "n_depends >= 20", true),
            (filter("n_depends", "lt", json!(20)), "n_depends < 20", false),
            (filter("tags", "contains", json!("c")), "tags @> ARRAY['c']", true),
            (filter("tags", "contains", json!("d")), "tags @> ARRAY['d']", false),
            (filter("homepage_host", "is_null", json!(true)), "homepage_host IS NULL", true),
            (filter("section", "is_null", json!(true)), "section IS NULL", false),
            (filter("maintainer_domain", "eq", json!("x")), "maintainer_domain = 'x'", false),
        ] {
            assert_eq!(filter.condition().unwrap(), sql);
            assert_eq!(filter.passes(&item).unwrap(), passes, "{sql}");
        }
        assert!(filter("section", "like", json!("l%")).condition().is_err());
        assert!(filter("id; DROP TABLE", "eq", json!(1)).condition().is_err());
    }

    #[test]
    fn fields_are_escaped_for_copy() {
        assert_eq!(copied(&json!(null)), "\\N");
        assert_eq!(copied(&json!("a\tb\\")), "a\\tb\\\\");
        assert_eq!(copied(&json!(["a", "b\"c"])), "{\"a\",\"b\\\\\"c\"}");
        assert_eq!(copied(&json!(12)), "12");
    }
}
