"""Events in the shape that Stripe documents for API version 2026-10-28, without the fields that nobody here reads."""

import itertools
from typing import Any

Json = dict[str, Any]
numbers = itertools.count(1)


def event(kind: str, created: int, thing: Json) -> Json:
    return {
        "id": f"evt_{next(numbers)}",
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": created,
        "data": {"object": thing},
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
    }


def session(customer: str, pack: str, total: int, tax: int, *, paid: bool = True) -> Json:
    return {
        "id": f"cs_{customer}",
        "object": "checkout.session",
        "amount_subtotal": total - tax,
        "amount_total": total,
        "client_reference_id": customer,
        "created": 1795000000,
        "currency": "usd",
        "customer": f"cus_{customer}",
        "invoice": None,
        "livemode": False,
        "metadata": {"pack": pack},
        "mode": "payment",
        "payment_intent": f"pi_{customer}",
        "payment_status": "paid" if paid else "unpaid",
        "status": "complete",
        "subscription": None,
        "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": tax},
    }


def charge(intent: str, amount: int, refunded: int) -> Json:
    return {
        "id": intent.replace("pi_", "ch_"),
        "object": "charge",
        "amount": amount,
        "amount_captured": amount,
        "amount_refunded": refunded,
        "captured": True,
        "created": 1795000000,
        "currency": "usd",
        "disputed": False,
        "livemode": False,
        "metadata": {},
        "paid": True,
        "payment_intent": intent,
        "refunded": refunded == amount,
        "status": "succeeded",
    }


def dispute(intent: str, amount: int, status: str) -> Json:
    return {
        "id": intent.replace("pi_", "du_"),
        "object": "dispute",
        "amount": amount,
        "balance_transactions": [],
        "charge": intent.replace("pi_", "ch_"),
        "created": 1795000000,
        "currency": "usd",
        "is_charge_refundable": False,
        "livemode": False,
        "metadata": {},
        "payment_intent": intent,
        "reason": "fraudulent",
        "status": status,
    }


def subscription(
    customer: str,
    price: str,
    start: int,
    end: int,
    *,
    anchor: int | None = None,
    status: str = "active",
    cancel_at: int | None = None,
    seats: int = 1,
    latest_invoice: int | None = None,
    again: str = "",
) -> Json:
    return {
        "id": f"sub_{customer}{again}",
        "object": "subscription",
        "billing_cycle_anchor": anchor or start,
        "cancel_at": cancel_at,
        "cancel_at_period_end": cancel_at is not None,
        "canceled_at": None,
        "collection_method": "charge_automatically",
        "created": start,
        "currency": "usd",
        "customer": f"cus_{customer}",
        "ended_at": end if status == "canceled" else None,
        "items": {
            "object": "list",
            "data": [
                {
                    "id": f"si_{customer}",
                    "object": "subscription_item",
                    "created": start,
                    "current_period_end": end,
                    "current_period_start": start,
                    "metadata": {},
                    "price": {"id": price, "object": "price", "currency": "usd", "type": "recurring"},
                    "quantity": seats,
                    "subscription": f"sub_{customer}{again}",
                }
            ],
            "has_more": False,
            "url": f"/v1/subscription_items?subscription=sub_{customer}{again}",
        },
        "latest_invoice": f"in_{customer}_{latest_invoice or start}",
        "livemode": False,
        "metadata": {"customer": customer},
        "start_date": anchor or start,
        "status": status,
    }


def invoice(
    customer: str,
    price: str,
    start: int,
    end: int,
    amount: int,
    reason: str,
    *,
    proration: bool = False,
    seats: int = 1,
    again: str = "",
) -> Json:
    return {
        "id": f"in_{customer}_{start}",
        "object": "invoice",
        "amount_due": amount,
        "amount_paid": amount,
        "amount_remaining": 0,
        "billing_reason": reason,
        "created": start,
        "currency": "usd",
        "customer": f"cus_{customer}",
        "lines": {
            "object": "list",
            "data": [
                {
                    "id": f"il_{customer}_{start}",
                    "object": "line_item",
                    "amount": amount,
                    "currency": "usd",
                    "invoice": f"in_{customer}_{start}",
                    "livemode": False,
                    "metadata": {"customer": customer},
                    "parent": {
                        "type": "subscription_item_details",
                        "invoice_item_details": None,
                        "subscription_item_details": {
                            "invoice_item": None,
                            "proration": proration,
                            "proration_details": {"credited_items": None},
                            "subscription": f"sub_{customer}{again}",
                            "subscription_item": f"si_{customer}",
                        },
                    },
                    "period": {"start": start, "end": end},
                    "pricing": {
                        "type": "price_details",
                        "price_details": {"price": price, "product": "prod_plan"},
                        "unit_amount_decimal": str(amount),
                    },
                    "quantity": seats,
                    "subtotal": amount,
                    "taxes": [],
                }
            ],
            "has_more": False,
            "url": f"/v1/invoices/in_{customer}_{start}/lines",
        },
        "livemode": False,
        "metadata": {},
        "parent": {
            "type": "subscription_details",
            "quote_details": None,
            "subscription_details": {"metadata": {"customer": customer}, "subscription": f"sub_{customer}{again}"},
        },
        "period_end": start,
        "period_start": start,
        "status": "paid",
        "total": amount,
    }


def invoice_payment(invoice: Json, intent: str) -> Json:
    return {
        "id": invoice["id"].replace("in_", "inpay_"),
        "object": "invoice_payment",
        "amount_paid": invoice["amount_paid"],
        "amount_requested": invoice["amount_paid"],
        "created": invoice["created"],
        "currency": "usd",
        "invoice": invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"type": "payment_intent", "payment_intent": intent},
        "status": "paid",
        "status_transitions": {"canceled_at": None, "paid_at": invoice["created"]},
    }
