//! The built program against control sockets that a test plays the hub of.

mod each;
mod exits;
mod fake;
mod output;
mod terminal;
