//! The rules that both backends of the runtime keep: each shared case is a function of a `Runtime`.
//!
//! The real backend runs the shared cases and those that need sockets, descriptors or other processes (`real`).
//! Each case has its own executor, and they take turns: rings and their buffers are a bounded good of the machine.

mod disk;
mod net;
mod real;
mod support;
mod tasks;

/// Names every shared case once; a backend's runner is one more module in here.
macro_rules! shared {
    (runtime: $($case:ident :: $name:ident),* ; disk: $($disk:ident),*) => {
        mod on_real {
            $(#[test] fn $name() {
                crate::support::on_shard(|runtime| async move { crate::$case::$name(&runtime).await });
            })*
            $(#[test] fn $disk() {
                crate::support::on_shard(|runtime| async move {
                    let root = crate::support::Directory::new(stringify!($disk));
                    let disk = runtime.disk(&root.0);
                    crate::disk::$disk(&runtime, &disk).await;
                });
            })*
        }
    };
}

shared! {
    runtime:
        net::echo, net::pause_and_resume, net::exhausted_buffers_lose_nothing, net::refused_connect, net::stale_ids_are_nothing,
        net::close_comes_after_the_send, net::stop_listening, net::exclusive_doors, net::empty_send, net::timer_reply_leaves_at_once,
        net::reused_slots,
        tasks::sleep_and_timeout, tasks::yielding_lets_others_run, tasks::random_numbers_differ, tasks::queues_all_run;
    disk:
        round_trip, errors_name_the_cause, names, small_files, lock_is_exclusive, large_writes, dropped_futures, a_write_is_queued_at_its_first_poll
}
