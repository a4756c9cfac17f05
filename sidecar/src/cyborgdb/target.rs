//! One index as one request addresses it: its name, the credential, and what is said when a call of it fails.

use axum::http::StatusCode;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::failure::Failure;
use super::words;
use crate::auth::Caller;
use crate::db::DbError;
use crate::error::{ApiError, Call};
use crate::sql::{KEK_LEN, Kek, ShownKey};
use crate::state::AppState;

/// What opens an index: a KEK, and whose it is if it is a user's. Bound behind every call's arguments.
#[derive(Debug, Default)]
pub struct Credential {
    /// `index_key` of the SQL functions.
    pub key: Option<Kek>,
    /// `user_id` of the SQL functions.
    pub user: Option<Vec<u8>>,
}

/// The index that a request is about.
pub struct Target<'a> {
    /// The server.
    pub state: &'a AppState,
    /// Its name and the words of its errors.
    pub call: Call<'a>,
    /// What opens it.
    pub credential: Credential,
}

/// What an administrator may know of an index without its key, and a user if it is his index.
pub struct Info {
    /// Of its vectors, once known.
    pub dimension: Option<i32>,
    /// The full name of its model.
    pub embedding_model: Option<String>,
    /// Its metadata schema.
    pub metadata_schema: Option<serde_json::Value>,
}

const INFO: &str = "SELECT dimension, embedding_model, metadata_schema::text FROM sealvec.index_info($1)";
/// The same for a user: refused unless his key opens this index.
const INFO_FOR_USER: &str = "SELECT dimension, embedding_model, metadata_schema::text \
    FROM sealvec.describe_index($1, index_key => $2, user_id => $3)";

impl Credential {
    /// A user's own key if the caller is one, whatever the request shows beside it; else the key that it shows.
    ///
    /// # Errors
    /// 400 for text that is no key.
    pub fn of(caller: &Caller, index_key: Option<&str>) -> Result<Self, ApiError> {
        if let Some(token) = caller.user() {
            return Ok(Self {
                key: Some(Kek::new(token.kek().expose())),
                user: Some(token.user().as_bytes().to_vec()),
            });
        }
        Ok(Self { key: index_key.filter(|text| !text.is_empty()).map(parse_key).transpose()?, user: None })
    }
}

/// 64 hex digits, in any case.
///
/// # Errors
/// 400, in the original's words.
pub fn parse_key(text: &str) -> Result<Kek, ApiError> {
    let mut key = zeroize::Zeroizing::new([0; KEK_LEN]);
    match hex::decode_to_slice(text, &mut key[..]) {
        Ok(()) => Ok(Kek::new(&key)),
        Err(hex::FromHexError::InvalidStringLength) if text.bytes().all(|b| b.is_ascii_hexdigit()) => {
            let bytes = text.len() / 2;
            Err(ApiError::bad_request(format!("index_key must be {KEK_LEN} bytes (hex-encoded); got {bytes} bytes")))
        }
        Err(_) => Err(ApiError::bad_request("Invalid hex string for encryption key")),
    }
}

impl<'a> Target<'a> {
    /// Of a request.
    ///
    /// # Errors
    /// 404 or 400 if the key is none.
    pub async fn of(
        state: &'a AppState,
        caller: &Caller,
        label: &'static str,
        index: &'a str,
        index_key: Option<&str>,
    ) -> Result<Self, Failure> {
        let call = Call { label, index, by_user: caller.user().is_some(), with_key: false };
        let mut target = Self { state, call, credential: Credential::default() };
        match Credential::of(caller, index_key) {
            Ok(credential) => {
                target.call.with_key = credential.key.is_some();
                target.credential = credential;
                Ok(target)
            }
            Err(error) => Err(target.refuse(error).await),
        }
    }

    /// The credential's key as a parameter of a call about this index.
    pub fn shown_key(&self) -> ShownKey<'_> {
        ShownKey::of_index(self.call.index, self.credential.key.as_ref())
    }

    /// One statement. Its last two parameters are the credential's; see [`Credential`].
    ///
    /// # Errors
    /// What the table of [`Call`] makes of the report.
    pub async fn rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, ApiError> {
        self.try_rows(sql, params).await.map_err(ApiError::from_sql(&self.call))
    }

    /// As [`rows`](Self::rows), the error as it came.
    ///
    /// # Errors
    /// The database's.
    pub async fn try_rows(&self, sql: &str, params: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, DbError> {
        let mut all: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(params.len() + 2);
        all.extend_from_slice(params);
        let key = self.shown_key();
        all.extend([&key as &(dyn ToSql + Sync), &self.credential.user]);
        self.state.pool.query_keyed(sql, &all, &[&key]).await
    }

    /// What is known without a key; to a user, only once the database has taken his for this index.
    ///
    /// # Errors
    /// 404 or, for a user, 403; or the database is not there.
    pub async fn info(&self) -> Result<Info, ApiError> {
        let rows = match self.call.by_user {
            true => self.rows(INFO_FOR_USER, &[&self.call.index]).await?,
            false => {
                let rows = self.state.pool.query(INFO, &[&self.call.index]).await;
                rows.map_err(ApiError::from_sql(&self.call))?
            }
        };
        let row = rows.first().ok_or_else(|| self.call.explain_state("42704", ""))?;
        let schema: Option<&str> = row.get(2);
        Ok(Info {
            dimension: row.get(0),
            embedding_model: row.get(1),
            metadata_schema: schema.and_then(|text| serde_json::from_str(text).ok()),
        })
    }

    /// A 400 for a bad value, unless there is no such index (404), or none that this user may know of (403): that
    /// comes first.
    pub async fn refuse(&self, error: ApiError) -> Failure {
        match self.info().await {
            Err(missing) if missing.status == StatusCode::NOT_FOUND => missing.into(),
            Err(denied) if self.call.by_user && denied.status == StatusCode::FORBIDDEN => denied.into(),
            _ => error.into(),
        }
    }

    /// [`refuse`](Self::refuse) with the words around `what`.
    pub async fn refuse_value(&self, what: &str) -> Failure {
        self.refuse(ApiError::bad_request(words::invalid(self.call.label, what))).await
    }

    /// What to answer when a call with vectors of `width` numbers failed: their dimension if that is wrong (400
    /// comes before 401, and SQL sees the key first), else what the database says. A user without rights is not
    /// told the dimension.
    pub async fn explain(&self, error: DbError, width: usize, sentence: fn(i64, i64) -> String) -> Failure {
        let answer = ApiError::from_sql(&self.call)(error);
        if matches!(answer.status.as_u16(), 400 | 401)
            && let Some(wrong) = self.wrong_dimension(width, sentence).await
        {
            return wrong.into();
        }
        answer.into()
    }

    /// The 400 for vectors of `width` numbers, if the index has another dimension.
    pub async fn wrong_dimension(&self, width: usize, sentence: fn(i64, i64) -> String) -> Option<ApiError> {
        let expected = i64::from(self.info().await.ok()?.dimension?);
        let got = i64::try_from(width).unwrap_or(i64::MAX);
        (expected != got).then(|| ApiError::bad_request(words::invalid(self.call.label, &sentence(expected, got))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_64_hex_digits_in_any_case() {
        for text in ["ab".repeat(32), "AB".repeat(32), "aB".repeat(32)] {
            assert_eq!(parse_key(&text).expect("a key").expose(), &[0xab; 32]);
        }
        let hex = "Invalid hex string for encryption key";
        let short = "index_key must be 32 bytes (hex-encoded); got 16 bytes";
        let cases: [(String, &str); 7] = [
            ("zz".into(), hex),
            ("zz".repeat(32), hex),
            ("abc".into(), hex),
            ("ab".repeat(16), short),
            (" ".repeat(64), hex),
            ("q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=".into(), hex),
            ("ab".repeat(33), "index_key must be 32 bytes (hex-encoded); got 33 bytes"),
        ];
        for (text, expected) in cases {
            let error = parse_key(&text).expect_err("no key");
            assert_eq!(error.status.as_u16(), 400);
            assert_eq!(error.detail, crate::error::Detail::Text(expected.to_owned()), "{} digits", text.len());
        }
    }
}
