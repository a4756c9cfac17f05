//! PostgreSQL with a key agent and key services behind it.

mod providers;
mod users;
