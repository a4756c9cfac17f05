//! PostgreSQL with a key agent and key services behind it.

mod handbook;
mod providers;
mod users;
