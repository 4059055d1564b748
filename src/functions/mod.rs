//! The SQL functions, one file a family: read the arguments, ask the ledger, write through the store.

mod answers;
mod debit;
mod grants;
mod holds;
mod limits;
mod reading;
mod refund;
mod request;
mod setup;
mod transfer;
mod triggers;
mod wallet_type;

crate::sql_functions! {
    "credyt_create_asset" => setup::create_asset;
    "credyt_set_price" => setup::set_price;
    "credyt_quote" => setup::quote;
    "credyt_open_wallet" => grants::open_wallet;
    "credyt_grant_credits" => grants::grant_credits;
    "credyt_revoke_grant" => grants::revoke_grant;
    "credyt_debit_credits" => debit::debit_credits;
    "credyt_authorize" => holds::authorize;
    "credyt_capture" => holds::capture;
    "credyt_release" => holds::release;
    "credyt_extend" => holds::extend;
    "credyt_refund" => refund::refund;
    "credyt_transfer" => transfer::transfer;
    "credyt_freeze_wallet" => transfer::freeze_wallet;
    "credyt_unfreeze_wallet" => transfer::unfreeze_wallet;
    "credyt_set_limit" => limits::set_limit;
    "credyt_limits_of" => limits::limits_of;
    "credyt_limit_period" => limits::limit_period;
    "credyt_balance" => reading::balance;
    "credyt_grants_of" => reading::grants_of;
    "credyt_advanced" => reading::advanced;
    "credyt_due" => reading::due;
    "credyt_spend" => wallet_type::spend;
    "credyt_wallet_in" => wallet_type::input;
    "credyt_wallet_out" => wallet_type::output;
    "credyt_wallet_recv" => wallet_type::receive;
    "credyt_wallet_send" => wallet_type::send;
    "credyt_wallet_pack" => wallet_type::pack;
    "credyt_wallet_unpack" => wallet_type::unpack;
    "credyt_wallet_changed_at" => wallet_type::changed_at;
    "credyt_wallet_next_due" => wallet_type::next_due;
    "credyt_wallet_settled" => wallet_type::settled;
    "credyt_wallet_held" => wallet_type::held;
    "credyt_wallet_available" => wallet_type::available;
    "credyt_wallet_owed" => wallet_type::owed;
    "credyt_wallet_next_expiry" => wallet_type::next_expiry;
    "credyt_refuse_change" => triggers::refuse_change;
    "credyt_announce_clock" => triggers::announce_clock;
}
