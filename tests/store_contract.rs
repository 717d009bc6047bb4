//! Every promise of every store method, kept by every backend.
//!
//! A promise is a function over a [`World`]: two stores behind their traits, and a clock in the test's hand. A backend
//! implements [`Backend`] and adds one line at the end of this file; it then has to keep all of them.

#![expect(clippy::unwrap_used, reason = "a store that does not answer has broken its promise")]

#[path = "store_contract/alerts.rs"]
mod alerts;
#[path = "store_contract/check_ins.rs"]
mod check_ins;
#[path = "store_contract/emergencies.rs"]
mod emergencies;
#[path = "store_contract/fixes.rs"]
mod fixes;
#[path = "store_contract/forgetting.rs"]
mod forgetting;
#[path = "store_contract/identity.rs"]
mod identity;
#[path = "store_contract/ownership.rs"]
mod ownership;
#[path = "store_contract/postgres.rs"]
mod postgres;
#[path = "store_contract/push.rs"]
mod push;
#[path = "store_contract/retention.rs"]
mod retention;
#[path = "store_contract/sqlite.rs"]
mod sqlite;
#[path = "store_contract/time.rs"]
mod time;
#[path = "store_contract/tracking.rs"]
mod tracking;
#[path = "store_contract/transitions.rs"]
mod transitions;
#[path = "store_contract/trust.rs"]
mod trust;
#[path = "store_contract/world.rs"]
mod world;
#[path = "store_contract/writing.rs"]
mod writing;
#[path = "store_contract/zones.rs"]
mod zones;

use world::{Backend, Stores, T0, World, after, by_polls, id};

macro_rules! promises {
    ($backend:ident, $make:expr, $($part:ident: $($promise:ident)+;)+) => {
        mod $backend {
            $(mod $part {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    let world = crate::World::over($make).await;
                    crate::$part::$promise(&world).await;
                })+
            })+
        }
    };
}

macro_rules! keeps_every_promise {
    ($backend:ident, $make:expr) => {
        promises! { $backend, $make,
            identity:
                an_account_is_created_once
                no_handle_and_no_id_is_used_again
                a_patch_changes_only_what_it_names
                wrong_pins_lock_at_the_limit
                a_session_opens_only_on_a_device_of_ones_own
                a_refresh_token_rotates
                of_two_refreshes_at_once_one_rotates
                an_ended_session_is_gone_and_revoked
                at_most_one_device_is_tracked
                devices_come_in_pages
                a_removed_device_ends_its_sessions;
            trust:
                a_pair_has_one_link
                only_the_contact_accepts_and_only_the_subject_changes
                an_expired_link_is_not_there
                links_come_in_pages
                disclosures_add_up;
            tracking:
                a_fence_reads_back_as_it_was_written
                fences_are_their_owners
                fences_and_vertices_are_limited
                a_replaced_fence_has_a_new_revision
                devices_of_a_person;
            ownership:
                of_two_owners_only_the_later_stores_something
                a_place_moves_only_forward
                a_device_that_was_given_back_is_nobodys
                a_later_claim_is_a_higher_number;
            transitions:
                a_commit_is_stored_once
                states_follow_the_fence
                history_knows_the_states_before
                a_dwell_is_due_until_it_is_found
                a_retracted_transition_may_happen_again
                a_waiting_transition_is_told_later
                a_cooldown_makes_history_only
                commits_of_the_gone_hold_nobody_up;
            fixes:
                a_fix_reads_back_as_it_was_recorded
                a_repeat_is_a_duplicate_and_another_time_a_conflict
                repeats_within_a_group_are_told_apart
                a_large_group_of_many_devices_is_told_apart
                last_seq_is_the_highest_whatever_way_it_came
                the_latest_fix_is_the_one_with_the_highest_number
                pages_go_through_all_devices_in_event_order
                a_page_may_begin_where_something_was_received
                a_fix_without_a_number_is_kept_like_any_other
                after_is_in_event_order;
            alerts:
                an_alert_is_stored_once
                contacts_are_those_of_the_moment
                named_contacts_only
                duress_is_told_to_those_who_hear_of_it
                inboxes_are_read_by_cursor
                a_delivery_only_moves_forward
                a_socket_takes_a_part_of_the_inbox;
            emergencies:
                an_emergency_reads_back_as_it_was_raised
                the_last_sign_of_life_outlives_a_restart
                a_repeated_raise_is_the_same_emergency
                a_second_raise_finds_the_open_one
                a_taken_id_raises_with_another
                of_many_raises_that_joined_the_newest_are_read_and_all_resolve
                a_change_is_made_from_the_version_it_names
                a_contact_has_part_in_what_they_were_told
                duress_shows_its_end_to_who_does_not_hear_of_it
                lists_show_the_state_that_people_see
                what_is_due_is_found
                raising_deliveries_are_listed_without_duress;
            check_ins:
                a_check_in_reads_back_as_it_was_set
                check_ins_come_in_pages_and_those_that_wait_first
                a_check_in_changes_from_the_version_it_names
                a_miss_and_its_emergency_are_one
                a_miss_joins_what_is_open
                of_a_completion_and_a_miss_one_is_stored
                a_dropped_miss_leaves_all_or_nothing
                a_timer_finds_the_check_ins_to_look_at
                forgotten_check_ins_never_fire;
            time:
                what_is_due_moves_with_the_clock_once
                a_change_made_across_a_step_is_made_again;
            push:
                an_endpoint_reads_back_as_it_was_registered
                a_token_is_one_devices
                a_token_that_many_register_at_once_is_one_devices
                an_endpoint_goes_with_its_device_and_its_person
                an_alert_is_pushed_to_every_endpoint_of_every_recipient
                the_oldest_emergency_that_waits_is_known
                a_claim_is_one_workers_until_its_lease_ends
                claims_leave_out_services_and_other_queues
                what_a_provider_took_is_sent_whoever_claimed_it
                a_push_is_tried_again_given_up_and_replayed
                an_app_that_was_faster_is_seen_by_the_claim
                what_is_gone_is_removed_unless_it_came_back
                the_last_endpoint_is_told_to_those_who_count_on_it
                what_had_its_time_is_swept
                what_a_gone_process_claimed_is_due;
            zones:
                zones_are_found_nearest_first
                a_zone_is_found_from_all_sides
                only_what_differs_is_a_new_revision
                changes_of_zones_are_told_where_they_were
                who_enters_a_zone_is_told_once
                visits_have_their_time;
            writing:
                concurrent_writers_leave_no_gap
                concurrent_raises_open_one_emergency
                a_dropped_write_leaves_all_or_nothing
                a_reopened_store_has_everything;
            retention:
                old_fixes_go_and_incidents_keep_their_part
                an_open_incident_keeps_the_newest_fix_whatever_its_age
                keepers_say_how_long_and_for_what
                emergencies_are_incidents_until_their_time_is_over
                old_alerts_go_and_their_places_stay
                old_disclosures_go
                old_transitions_go_unless_a_state_follows_from_them
                trails_of_the_forgotten_go_with_them;
            forgetting:
                the_forgotten_leave_nothing_but_marks
                a_deleted_alert_leaves_its_place
                forgetting_twice_is_forgetting
                what_was_on_its_way_is_not_kept;
        }
    };
}

keeps_every_promise!(on_sqlite, crate::sqlite::Sqlite::new());
keeps_every_promise!(on_postgres, crate::postgres::Postgres::default());
