//! One line for each ban of clippy.toml. `.ci/run bans` counts that clippy complains of every one.

pub fn banned() {
    let now = std::time::Instant::now();
    let _ = now.elapsed();
    let wall = std::time::SystemTime::now();
    let _ = wall.elapsed();
    std::thread::sleep(std::time::Duration::ZERO);
    let _: Option<std::net::TcpListener> = None;
    let _: Option<std::net::TcpStream> = None;
    let _: Option<std::net::UdpSocket> = None;
    let _: Option<std::os::unix::net::UnixDatagram> = None;
    let _: Option<std::os::unix::net::UnixListener> = None;
    let _: Option<std::os::unix::net::UnixStream> = None;
}
