"""Powertools for AWS Lambda: structured logs, traces, metrics, routes and batches.

pip install --target . -r requirements.txt
firelet deploy . --name powertools --handler app.handler
"""

from __future__ import annotations

from typing import Any

from aws_lambda_powertools import Logger, Metrics, Tracer
from aws_lambda_powertools.event_handler import APIGatewayHttpResolver
from aws_lambda_powertools.event_handler.exceptions import NotFoundError
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)

logger = Logger(service="shop")
tracer = Tracer(service="shop")
metrics = Metrics(namespace="Shop", service="shop")
app = APIGatewayHttpResolver()
processor = BatchProcessor(event_type=EventType.SQS)

PRICES = {"tea": 3, "coffee": 4}


@app.get("/prices/<name>")
@tracer.capture_method
def price(name: str) -> dict[str, Any]:
    if name not in PRICES:
        raise NotFoundError(f"no {name} here")
    metrics.add_metric(name="Asked", unit=MetricUnit.Count, value=1)
    logger.info("price asked", extra={"item": name})
    return {"name": name, "price": PRICES[name]}


@logger.inject_lambda_context(log_event=False)
@tracer.capture_lambda_handler
@metrics.log_metrics(capture_cold_start_metric=True)
def handler(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """HTTP requests, from a function URL or an HTTP API."""
    return app.resolve(event, context)


def batch(event: dict[str, Any], context: Any) -> dict[str, Any]:
    """Messages of a queue; those that fail come back, the others do not."""
    return process_partial_response(
        event=event, record_handler=order, processor=processor, context=context
    )


def order(record: Any) -> None:
    if record.body not in PRICES:
        raise ValueError(f"no {record.body} here")
