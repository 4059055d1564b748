"""What the genai-prices package itself says, for tests/vendors.rs to compare with.

  prices_oracle.py cost <prices.json> <count> <seed>   generated usages with their prices, one JSON object a line
  prices_oracle.py export                              the prices that the package brings, as its prices.json has them

The package has to be on PYTHONPATH; scripts/env.sh genai puts it there.
"""

import dataclasses
import json
import random
import sys
import warnings
from datetime import datetime, timedelta, timezone
from decimal import Decimal

from genai_prices import types
from genai_prices.data_snapshot import DataSnapshot
from genai_prices.units import _get_registry

warnings.simplefilter("ignore")


def export():
    from genai_prices.data import providers

    print(json.dumps([plain(provider) for provider in providers]))


def plain(value):
    """A part of the package's data as its JSON file has it."""
    if isinstance(value, types.ModelPrice):
        return {key: plain(price) for key, price in value.__dict__.items() if price is not None}
    if dataclasses.is_dataclass(value):
        fields = {}
        for field in dataclasses.fields(value):
            if field.name.startswith("_"):
                continue
            content = getattr(value, field.name)
            if content is not None:
                fields[field.name.rstrip("_")] = plain(content)
        return fields
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (str, int, bool)):
        return value
    return value.isoformat()


def cost(file, count, seed):
    with open(file) as opened:
        raw = json.load(opened)
    providers = types._providers_from_raw(raw)
    snapshot = DataSnapshot(providers=providers, from_auto_update=False)
    chance = random.Random(seed)
    for _ in range(count):
        print(json.dumps(one(snapshot, providers, chance)))


def one(snapshot, providers, chance):
    # As many of each provider, so that those with few models are tried as often; more of those whose price depends on
    # the moment or the request.
    provider = chance.choice(providers)
    model = chance.choice([model for model in provider.models if priced(model)] or provider.models)
    special = [model for model in provider.models if isinstance(model.prices, list) or model.price_variants]
    if special and chance.random() < 0.3:
        model = chance.choice(special)
    owner = provider
    if provider.fallback_model_providers and chance.random() < 0.3:
        other = chance.choice(provider.fallback_model_providers)
        owner = next(found for found in providers if found.id == other)
        model = chance.choice(owner.models)
    at = moment(model, chance)
    context = {}
    if model.price_variants and chance.random() < 0.6:
        context = dict(chance.choice(model.price_variants).when)
        if chance.random() < 0.2:
            context[chance.choice(list(context))] += "x"
    name = reference(model, chance)
    case = {
        "vendor": provider.id.upper() if chance.random() < 0.05 else provider.id,
        "model": name,
        "at": at.isoformat(),
        "context": context,
        "api_flavor": "default",
        "priced": True,
        # The package knows a model by its rules only, not by its id.
        "is_id": any(one.id in (name, name.lower()) for one in provider.models),
    }
    try:
        if provider.extractors:
            extractor = chance.choice(provider.extractors)
            case["api_flavor"] = extractor.api_flavor
            case["usage"] = answer(extractor, name, chance)
            found = snapshot.extract_usage(case["usage"], provider_id=case["vendor"], api_flavor=extractor.api_flavor)
            usage, meant = found.usage, found.model
            if isinstance(extractor.model_path, str) and chance.random() < 0.5:
                case["model"] = None
        else:
            case["usage"] = counts(model, at, context, chance)
            usage = types.Usage(**case["usage"])
            meant = snapshot.find_provider_model(name, None, case["vendor"], None)[1]
        case["priced"] = priced(meant)
        # The package prices what it has no price for as if nothing had been said.
        known = [pair for variant in meant.price_variants or [] for pair in variant.when.items()]
        case["made_up"] = any(pair not in known for pair in context.items())
        price = meant.calc_price(usage, provider, genai_request_timestamp=at, price_context=context or None)
        case["price"] = str(price.total_price)
    except LookupError:
        case["unknown"] = True
    except ValueError as error:
        case["error"] = str(error)
    return case


def priced(model):
    prices = model.prices if isinstance(model.prices, list) else [model]
    return any(price.prices.__dict__ for price in prices)


def reference(model, chance):
    """A name that some rule of the model may hold for."""
    if chance.random() < 0.5:
        return model.id
    names = list(clauses(model.match))
    name = chance.choice(names) if names else model.id
    kind = chance.random()
    if kind < 0.3:
        return name.upper()
    if kind < 0.5:
        return name + chance.choice(["-20250101", "-2025-01-01", "-latest", "-x"])
    return name


def clauses(rule):
    for inner in getattr(rule, "or_", None) or getattr(rule, "and_", None) or []:
        yield from clauses(inner)
    for kind in ("equals", "starts_with", "ends_with", "contains"):
        if hasattr(rule, kind):
            yield getattr(rule, kind)


def moment(model, chance):
    """Any moment; often close to one at which a price of the model starts or ends."""
    at = datetime(2024, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=chance.randrange(3 * 366 * 86_400_000_000))
    prices = model.prices if isinstance(model.prices, list) else []
    constraints = [one.constraint for one in [*prices, *(model.price_variants or [])] if one.constraint]
    if not constraints or chance.random() < 0.3:
        return at
    constraint = chance.choice(constraints)
    if isinstance(constraint, types.StartDateConstraint):
        at = datetime.combine(constraint.start_date, datetime.min.time(), timezone.utc)
    else:
        edge = chance.choice([constraint.start_time, constraint.end_time])
        at = datetime.combine(at.date(), edge, edge.tzinfo or timezone.utc)
    step = chance.choice([timedelta(microseconds=1), timedelta(seconds=1), timedelta(hours=3)])
    return at + step * chance.choice([-1, 0, 1])


def answer(extractor, name, chance):
    """A vendor's answer that the extractor can read."""
    body = {}
    put(body, extractor.model_path, name)
    big = chance.choice([1_000, 100_000, 200_000, 200_001, 272_001, 1_000_000])
    for mapping in extractor.mappings:
        if not mapping.required and chance.random() < 0.4:
            continue
        if mapping.dest in ("input_tokens", "output_tokens") and mapping.required:
            value = big if chance.random() < 0.3 else chance.randrange(big // 2, big + 1)
        else:
            # So few that all of them fit into what they are a part of.
            value = chance.choice([0, 1, chance.randrange(big // 20 + 1)])
        root = [extractor.root] if isinstance(extractor.root, str) else list(extractor.root)
        path = [mapping.path] if isinstance(mapping.path, str) else list(mapping.path)
        put(body, root + path, value)
    return body


def put(body, path, value):
    path = [path] if isinstance(path, str) else path
    for nth, step in enumerate(path[:-1]):
        if isinstance(step, types.ArrayMatch):
            wanted = step.match.equals
            found = next((item for item in body if item.get(step.field) == wanted), None)
            if found is None:
                found = {step.field: wanted}
                body.append({step.field: "OTHER", path[nth + 1]: 7})
                body.append(found)
            body = found
        else:
            body = body.setdefault(step, [] if isinstance(path[nth + 1], types.ArrayMatch) else {})
    body[path[-1]] = value


def counts(model, at, context, chance):
    """{unit: count} for a vendor without extractors: what its price knows, and sometimes what it does not."""
    registry = _get_registry()
    units = [registry.unit_for_price_key(key).usage_key for key in model.get_prices(at, context or None).__dict__]
    usage = {}
    big = chance.choice([100_000, 200_000, 1_000_000])
    for unit in [*units, "input_tokens", "output_tokens", "cache_read_tokens"]:
        if unit == "requests" or unit in usage:
            continue
        usage[unit] = chance.randrange(big // 2, big) if unit in ("input_tokens", "output_tokens") else chance.randrange(big // 20)
    return usage


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["export"]:
            export()
        case ["cost", file, count, seed]:
            cost(file, int(count), int(seed))
        case _:
            sys.exit(__doc__)
