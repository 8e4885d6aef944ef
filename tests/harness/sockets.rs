//! The operating system's socket table.

use std::collections::HashMap;
use std::fs;

/// `st` of an established connection in `/proc/net/tcp` (Linux, `include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";

/// Address and port as the table writes them: hexadecimal, IPv4 and IPv6 alike.
type End = String;

/// Local end, remote end and inode of each established TCP connection.
fn established() -> Vec<(End, End, u64)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let rows = tables.iter().flat_map(|table| table.lines().skip(1));
    rows.filter_map(|row| {
        let fields: Vec<&str> = row.split_whitespace().collect();
        let [_, local, remote, state, _, _, _, _, _, inode, ..] = fields[..] else { return None };
        let inode = inode.parse().ok()?;
        (state == ESTABLISHED).then(|| (plain(local), plain(remote), inode))
    })
    .collect()
}

/// An IPv4 address mapped into IPv6 written as the IPv4 table writes it.
fn plain(end: &str) -> End {
    end.strip_prefix("0000000000000000FFFF0000").unwrap_or(end).to_owned()
}

/// Inodes of the sockets that a process has open.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    files
        .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// The established TCP connections between any two different processes of `pids`, as pairs of process ids.
pub(crate) fn tcp_between(pids: &[u32]) -> Vec<(u32, u32)> {
    let owners: HashMap<u64, u32> =
        pids.iter().flat_map(|pid| sockets_of(*pid).into_iter().map(|inode| (inode, *pid))).collect();
    let ends: HashMap<(End, End), u32> = established()
        .into_iter()
        .filter_map(|(local, remote, inode)| Some(((local, remote), *owners.get(&inode)?)))
        .collect();
    let mut pairs: Vec<(u32, u32)> = ends
        .iter()
        .filter_map(|((local, remote), pid)| Some((*pid, *ends.get(&(remote.clone(), local.clone()))?)))
        .filter(|(a, b)| a < b)
        .collect();
    pairs.sort_unstable();
    pairs
}

/// A table that finds nothing proves nothing: it must find a connection that is there.
#[test]
fn the_socket_table_shows_a_connection_between_two_processes() {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    // bash opens the connection as file 3 and waits for the end of its input.
    let mut child = Command::new("bash")
        .args(["-c", &format!("exec 3<>/dev/tcp/127.0.0.1/{port}; read -r")])
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash");
    let (mut stream, _): (TcpStream, _) = listener.accept().expect("bash connects");
    let pids = [std::process::id(), child.id()];
    super::until("the table shows it", || (tcp_between(&pids).len() == 1).then_some(()));
    drop(child.stdin.take());
    child.wait().expect("bash ends");
    let _ = stream.read(&mut [0]);
    assert_eq!(tcp_between(&pids), []);
}
