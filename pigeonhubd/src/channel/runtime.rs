//! The ground that the WebRTC crate runs on: tokio, with a few differences.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::AbortHandle;
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, Runtime, TokioRuntime,
};

use super::sockets;

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The longest sleep of the crate's driver while a channel opens or closes. The driver
/// flushes before it reads, so an answer that a packet calls for waits for its next
/// wake-up, and its own timers would let that take 200 ms at each step.
const BRISK_SLEEP: Duration = Duration::from_millis(5);

/// How long a STUN server's name may take to resolve; the driver stands still meanwhile.
const RESOLVE: Duration = Duration::from_secs(2);

/// Which of the crate's tasks have ended, however they did.
#[derive(Debug, Default)]
struct Count {
    all: usize,
    /// The one that does the connection's work. It is started first.
    driver: bool,
}

/// One channel's runtime: it knows every task that the crate starts, so that none outlives the channel.
#[derive(Debug)]
pub(super) struct ChannelRuntime {
    /// The channel's own addresses.
    addresses: Arc<[IpAddr]>,
    brisk: AtomicBool,
    tasks: Mutex<Vec<AbortHandle>>,
    ended: watch::Sender<Count>,
}

impl ChannelRuntime {
    pub(super) fn new(addresses: &[IpAddr]) -> Arc<Self> {
        let (addresses, ended) = (addresses.into(), watch::Sender::new(Count::default()));
        Arc::new(Self { addresses, brisk: AtomicBool::new(true), tasks: Mutex::new(Vec::new()), ended })
    }

    /// Whether the driver looks after its work every few milliseconds, or only when it must.
    pub(super) fn set_brisk(&self, brisk: bool) {
        self.brisk.store(brisk, Ordering::Relaxed);
    }

    /// Waits until the crate's driver ends, by itself, by panic or by abort.
    pub(super) async fn driver_ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is in `self`, so this cannot fail.
        let _ = ended.wait_for(|ended| ended.driver).await;
    }

    /// Ends all of the crate's tasks and waits until they are gone, and their sockets with them.
    pub(super) async fn end_all(&self) {
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in &tasks {
            task.abort();
        }
        let mut ended = self.ended.subscribe();
        let _ = ended.wait_for(|ended| ended.all >= tasks.len()).await;
    }
}

/// One of the crate's tasks. The fields are dropped in order, so it counts as ended
/// only when its sockets are gone; a panic or an abort drops it just as well.
struct Watched {
    future: Boxed<'static, ()>,
    _ended: Ended,
}

impl Future for Watched {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.future.as_mut().poll(cx)
    }
}

struct Ended {
    count: watch::Sender<Count>,
    driver: bool,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.count.send_modify(|count| {
            count.all += 1;
            count.driver |= self.driver;
        });
    }
}

#[derive(Debug)]
struct Task(AbortHandle);

impl JoinHandle for Task {
    fn detach(&self) {}

    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Runtime for ChannelRuntime {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = Ended { count: self.ended.clone(), driver: tasks.is_empty() };
        let task = tokio::spawn(Watched { future, _ended: ended }).abort_handle();
        tasks.push(task.clone());
        Box::new(Task(task))
    }

    fn wrap_udp_socket(&self, socket: UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        sockets::enlarge_buffers(&socket);
        let socket = TokioRuntime.wrap_udp_socket(socket)?;
        Ok(Arc::new(sockets::Socket::new(socket, Arc::clone(&self.addresses))))
    }

    fn wrap_tcp_listener(&self, _: TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        Err(no_tcp())
    }

    /// Refused: else a stranger's candidate could make us connect to any service within our reach.
    fn connect_tcp<'a>(&'a self, _: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(no_tcp()) })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            match tokio::time::timeout(RESOLVE, TokioRuntime.resolve_host(host)).await {
                Ok(addresses) => addresses,
                Err(_) => {
                    let error = format!("the name {host} did not resolve within {} s", RESOLVE.as_secs());
                    Err(io::Error::new(io::ErrorKind::TimedOut, error))
                }
            }
        })
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        let brisk = self.brisk.load(Ordering::Relaxed);
        TokioRuntime.sleep(if brisk { duration.min(BRISK_SLEEP) } else { duration })
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn yield_now(&self) -> Boxed<'static, ()> {
        TokioRuntime.yield_now()
    }

    fn name(&self) -> &'static str {
        "pigeonhubd"
    }
}

fn no_tcp() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a channel uses UDP only")
}
