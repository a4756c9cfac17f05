//! What issue 5 wants of a data set: limits in absolute figures hold only for the sets that they were set for.

/// A recall to reach, and how many times as fast as hnsw at its best setting the sealed index should be there.
#[derive(Clone, Copy)]
pub struct Level {
    pub recall: f64,
    pub times_hnsw: f64,
}

#[derive(Clone, Copy)]
pub struct Goals {
    pub levels: [Level; 3],
    pub build_seconds: Option<f64>,
    pub index_mib: Option<f64>,
    pub first_query_ms: Option<f64>,
    /// Binary COPY into a sealed column, rows/s, and time of a query inside the index at the middle level.
    pub copy_rows_per_second: Option<f64>,
    pub index_us: Option<f64>,
    /// Peaks of a build: of its own memory, which maintenance_work_mem bounds, and of all that is resident.
    pub build_own_mib: Option<f64>,
    pub build_resident_mib: Option<f64>,
}

const fn levels(recalls: [f64; 3], times: [f64; 3]) -> [Level; 3] {
    [
        Level { recall: recalls[0], times_hnsw: times[0] },
        Level { recall: recalls[1], times_hnsw: times[1] },
        Level { recall: recalls[2], times_hnsw: times[2] },
    ]
}

const REAL: Goals = Goals {
    levels: levels([0.95, 0.98, 0.99], [1.6, 2.5, 3.5]),
    build_seconds: Some(2.0),
    index_mib: Some(60.0),
    first_query_ms: Some(10.0),
    copy_rows_per_second: Some(100_000.0),
    index_us: Some(170.0),
    build_own_mib: None,
    build_resident_mib: None,
};
const MILLION: Goals = Goals {
    levels: levels([0.96, 0.975, 0.99], [3.0, 3.0, 4.0]),
    build_seconds: Some(60.0),
    index_mib: Some(950.0),
    first_query_ms: Some(30.0),
    copy_rows_per_second: Some(100_000.0),
    index_us: None,
    build_own_mib: Some(256.0),
    build_resident_mib: Some(1024.0),
};

impl Goals {
    /// For so many rows of a given or a derived set.
    pub fn of(rows: usize, derived: bool) -> Self {
        match (rows, derived) {
            (60_000..70_000, false) => REAL,
            (1_000_000, true) => MILLION,
            (_, derived) => {
                let near = if derived { MILLION } else { REAL };
                Goals {
                    levels: near.levels,
                    build_seconds: None,
                    index_mib: None,
                    first_query_ms: None,
                    copy_rows_per_second: None,
                    index_us: None,
                    build_own_mib: None,
                    build_resident_mib: None,
                }
            }
        }
    }
}
