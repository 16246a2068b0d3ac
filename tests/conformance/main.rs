//! The rules that both backends of the runtime keep: each shared case is a function of a `Runtime`.
//!
//! The real backend runs the shared cases and those that need sockets, descriptors or other processes (`real`).
//! Each case has its own executor, and they take turns: rings and their buffers are a bounded good of the
//! machine. The simulated one runs the shared cases in a few worlds each, and those that need a power cut or an
//! order of its choice (`simulated`).

mod disk;
mod mail;
mod net;
mod real;
mod simulated;
mod support;
mod tasks;

/// Names every shared case once; a backend's runner is a module in here.
macro_rules! shared {
    (runtime: $($case:ident :: $name:ident),* ; disk: $($disk:ident),* ; mail: $($mail:ident),*) => {
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
            $(#[test] fn $mail() {
                crate::support::on_shards(crate::mail::CREDITS, crate::mail::$mail);
            })*
        }
        mod on_simulated {
            $(#[test] fn $name() {
                crate::support::on_machine(|runtime| async move { crate::$case::$name(&runtime).await });
            })*
            $(#[test] fn $disk() {
                crate::support::on_machine(|runtime| async move {
                    let disk = runtime.disk(std::path::Path::new("/data"));
                    crate::disk::$disk(&runtime, &disk).await;
                });
            })*
            $(#[test] fn $mail() {
                crate::support::on_processes(crate::mail::CREDITS, crate::mail::$mail);
            })*
        }
    };
}

shared! {
    runtime:
        net::echo, net::pause_and_resume, net::exhausted_buffers_lose_nothing, net::refused_connect,
        net::stale_ids_are_nothing,
        net::close_comes_after_the_send, net::stop_listening, net::exclusive_doors, net::empty_send,
        net::timer_reply_leaves_at_once,
        net::reused_slots, net::misuse_is_a_panic, net::close_while_connecting, net::nothing_comes_after_a_close,
        net::the_end_waits_for_resume, net::held_leases_hold_one_connection, net::close_does_not_wait_for_ever,
        net::a_half_closed_peer_is_answered, net::a_close_waits_for_the_peers_end_but_not_for_ever,
        net::a_reply_outlives_unread_bytes, net::a_cut_send_is_reported, net::events_are_added_and_waited_for,
        tasks::sleep_and_timeout, tasks::yielding_lets_others_run, tasks::random_numbers_differ,
        tasks::queues_all_run;
    disk:
        round_trip, errors_name_the_cause, names, small_files, lock_is_exclusive, large_writes, dropped_futures,
        a_write_is_queued_at_its_first_poll,
        create_leaves_what_is_there, names_that_are_no_directory, an_open_file_outlives_its_name, links,
        the_lock_names_its_holder, ranges_are_whole_pages, writes_go_past_the_end;
    mail:
        a_letter_wakes_who_sleeps, two_that_flood_each_other, credits_run_out_and_come_back,
        the_end_of_a_shard_is_told_last, large_letters
}
