//! What no language can say: texts that are no texts, lists that share their elements, tables that grow, an allocator that
//! lies. Each is the `run` of an agent, written by hand; `0` is the address of a zeroed place, `2048` the result `survived`.

use super::components::{CORE_AGENT, CoreAgent};
use super::harness::{Row, World, row, with_runtime};

const LOG: &str = r#"(import "midplane:plugin/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const EMIT: &str = r#"(import "midplane:plugin/events@0.1.0" "emit" (func $emit (param i32 i32 i32)))"#;
const STATUS: &str =
    r#"(import "midplane:plugin/http@0.1.0" "[method]response.status" (func $status (param i32) (result i32)))"#;
const CONFIG: &str = r#"(import "midplane:plugin/config@0.1.0" "get" (func $get (param i32 i32 i32)))"#;

fn check(name: &str, agent: &CoreAgent, row: &Row) {
    let component = agent.component();
    with_runtime(|logs| async move {
        let world = World::open(row, logs).await;
        let file = world.home.path().join("guest.wasm");
        std::fs::write(&file, component).expect("component");
        world.install(&file).await;
        world.check(name, row).await;
    });
}

/// Makes a test of each.
macro_rules! core_guests {
    ($($name:ident: $end:literal, $agent:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check(stringify!($name), &$agent, &row("core", $end));
            }
        )*
    };
}

core_guests! {
    // The skeleton itself, which every other one is a change of.
    hostile_core_not_at_all: "failed: internal survived", CORE_AGENT;

    // ---- texts and lists that are none
    hostile_string_not_utf8: "failed: internal trap", CoreAgent {
        imports: LOG,
        items: r#"(data (i32.const 3000) "\ff\fe\80\80")"#,
        run: "(call $log (i32.const 0) (i32.const 3000) (i32.const 4)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_string_surrogate: "failed: internal trap", CoreAgent {
        imports: LOG,
        items: r#"(data (i32.const 3000) "\ed\a0\80")"#,
        run: "(call $log (i32.const 0) (i32.const 3000) (i32.const 3)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_string_of_a_gibibyte: "failed: internal trap", CoreAgent {
        imports: LOG,
        run: "(call $log (i32.const 0) (i32.const 0) (i32.const 0x40000000)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_string_beyond_memory: "failed: internal trap", CoreAgent {
        imports: LOG,
        run: "(call $log (i32.const 0) (i32.const -8) (i32.const 64)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_enum_unknown: "failed: internal trap", CoreAgent {
        imports: LOG,
        run: "(call $log (i32.const 99) (i32.const 0) (i32.const 0)) (i32.const 2048)",
        ..CORE_AGENT
    };
    // 100,000 events, each of which is the same 64 KiB: 6 GiB if anybody copied them.
    hostile_list_of_list: "failed: limit argument-size", CoreAgent {
        imports: EMIT,
        run: r"
            (local $at i32)
            (drop (memory.grow (i32.const 40)))
            (local.set $at (i32.const 262144))
            (loop $next
                (i32.store (local.get $at) (i32.const 1024))
                (i32.store offset=4 (local.get $at) (i32.const 8))
                (i32.store offset=8 (local.get $at) (i32.const 131072))
                (i32.store offset=12 (local.get $at) (i32.const 65536))
                (local.set $at (i32.add (local.get $at) (i32.const 16)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 1862144))))
            (call $emit (i32.const 262144) (i32.const 100000) (i32.const 4096))
            (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_list_of_a_billion: "failed: internal trap", CoreAgent {
        imports: EMIT,
        run: "(call $emit (i32.const 0) (i32.const 0x0fffffff) (i32.const 4096)) (i32.const 2048)",
        ..CORE_AGENT
    };
    // Empty texts cost the guest nothing and the host a place each.
    hostile_list_of_nothings: "failed: limit argument-size", CoreAgent {
        imports: EMIT,
        run: "(drop (memory.grow (i32.const 900))) (call $emit (i32.const 262144) (i32.const 3600000) (i32.const 4096)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_handle_forged: "failed: internal trap", CoreAgent {
        imports: STATUS,
        run: "(drop (call $status (i32.const 12345))) (i32.const 2048)",
        ..CORE_AGENT
    };

    // ---- results that are none
    hostile_result_not_utf8: "failed: internal trap", CoreAgent {
        run: "(i32.store (i32.const 1024) (i32.const -1)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_result_of_no_case: "failed: internal trap", CoreAgent {
        run: "(i32.store8 (i32.const 2048) (i32.const 7)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_result_beyond_memory: "failed: internal trap", CoreAgent { run: "(i32.const -8)", ..CORE_AGENT };
    hostile_result_unaligned: "failed: internal trap", CoreAgent { run: "(i32.const 2049)", ..CORE_AGENT };

    // ---- an allocator that lies, and one that calls back
    hostile_allocator_beyond_memory: "refused: internal trap", CoreAgent { on_realloc: "(return (i32.const -8))", ..CORE_AGENT };
    hostile_allocator_unaligned: "refused: internal trap", CoreAgent { on_realloc: "(return (i32.const 65537))", ..CORE_AGENT };
    hostile_allocator_spins: "refused: limit cpu", CoreAgent { on_realloc: "(loop $l (br $l))", ..CORE_AGENT };
    hostile_allocator_calls_the_host: "refused: internal trap", CoreAgent {
        imports: LOG,
        on_realloc: "(call $log (i32.const 0) (i32.const 0) (i32.const 0))",
        ..CORE_AGENT
    };
    hostile_allocator_reenters: "refused: internal trap", CoreAgent {
        imports: CONFIG,
        items: r#"(data (i32.const 3000) "server")"#,
        on_realloc: "(call $get (i32.const 3000) (i32.const 6) (i32.const 4096))",
        ..CORE_AGENT
    };
    hostile_after_return_spins: "failed: limit cpu", CoreAgent {
        items: r#"(func (export "cabi_post_midplane:plugin/agent@0.1.0#run") (param i32) (loop $l (br $l)))"#,
        ..CORE_AGENT
    };
    hostile_after_return_traps: "failed: internal trap", CoreAgent {
        items: r#"(func (export "cabi_post_midplane:plugin/agent@0.1.0#run") (param i32) unreachable)"#,
        ..CORE_AGENT
    };
    hostile_after_return_calls_the_host: "failed: internal trap", CoreAgent {
        imports: LOG,
        items: r#"(func (export "cabi_post_midplane:plugin/agent@0.1.0#run") (param i32) (call $log (i32.const 0) (i32.const 0) (i32.const 0)))"#,
        ..CORE_AGENT
    };

    // ---- growth
    hostile_grow_table: "failed: limit memory", CoreAgent {
        items: "(table $t 1 funcref)",
        run: "(if (i32.lt_s (table.grow $t (ref.null func) (i32.const 10000000)) (i32.const 0)) (then unreachable)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_grow_table_slowly: "failed: limit memory", CoreAgent {
        items: "(table $t 1 funcref)",
        run: "(loop $l (br_if $l (i32.ge_s (table.grow $t (ref.null func) (i32.const 1000)) (i32.const 0)))) unreachable",
        ..CORE_AGENT
    };
    // One that takes a refusal for what it is goes on.
    hostile_grow_table_in_vain: "failed: internal survived", CoreAgent {
        items: "(table $t 1 funcref)",
        run: "(drop (table.grow $t (ref.null func) (i32.const 10000000))) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_grow_memory_at_once: "failed: limit memory", CoreAgent {
        run: "(if (i32.lt_s (memory.grow (i32.const 65000)) (i32.const 0)) (then unreachable)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_start_function_is_ok: "failed: internal survived", CoreAgent { items: "(func $s) (start $s)", ..CORE_AGENT };

    // ---- WASI by hand
    hostile_random_gibibyte: "failed: internal trap", CoreAgent {
        wit: "package wasi:random@0.2.6; interface random { get-random-bytes: func(len: u64) -> list<u8>; }
            --- import wasi:random/random@0.2.6;",
        imports: r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#,
        run: "(call $random (i64.const 0x40000000) (i32.const 4096)) (i32.const 2048)",
        ..CORE_AGENT
    };
    hostile_many_pollables: "failed: limit handles", CoreAgent {
        wit: "package wasi:io@0.2.6; interface poll { resource pollable; }
            --- package wasi:clocks@0.2.6; interface monotonic-clock { use wasi:io/poll@0.2.6.{pollable}; subscribe-duration: func(when: u64) -> pollable; }
            --- import wasi:clocks/monotonic-clock@0.2.6;",
        imports: r#"(import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $subscribe (param i64) (result i32)))"#,
        run: "(loop $l (drop (call $subscribe (i64.const 1000000000))) (br $l)) unreachable",
        ..CORE_AGENT
    };
}

/// What runs when a component is instantiated runs when it is installed.
#[test]
fn hostile_start_functions_are_refused_at_install() {
    let cases = [
        ("spins", "(func $s (loop $l (br $l))) (start $s)", "limit cpu"),
        ("traps", "(func $s unreachable) (start $s)", "internal instantiate"),
    ];
    for (name, items, end) in cases {
        let component = CoreAgent { items, ..CORE_AGENT }.component();
        with_runtime(|logs| async move {
            let world = World::open(&row("core", "done"), logs).await;
            let file = world.home.path().join("guest.wasm");
            std::fs::write(&file, component).expect("component");
            let error = world.host.install(&super::harness::manifest(), &file).await.expect_err(name);
            assert_eq!(format!("{} {}", error.kind, error.code), end, "{name}: {error}");
            assert!(world.host.plugin("hostile").await.is_err(), "{name} is installed");
            world.lives().await;
        });
    }
}
