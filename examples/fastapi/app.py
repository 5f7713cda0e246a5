"""A FastAPI application as a function: Mangum translates between HTTP events and ASGI.

pip install --target . -r requirements.txt
firelet deploy . --name shop --handler app.handler
"""

from __future__ import annotations

from fastapi import FastAPI, HTTPException, Request, Response
from mangum import Mangum
from pydantic import BaseModel

app = FastAPI()
orders: dict[int, str] = {}


class Order(BaseModel):
    item: str
    count: int = 1


@app.post("/orders", status_code=201)
def create(order: Order) -> dict[str, object]:
    number = len(orders) + 1
    orders[number] = order.item
    return {"number": number, "item": order.item, "count": order.count}


@app.get("/orders/{number}")
def read(number: int) -> dict[str, object]:
    if number not in orders:
        raise HTTPException(404, "no such order")
    return {"number": number, "item": orders[number]}


@app.get("/visits")
def count_visits(request: Request, response: Response) -> int:
    visits = int(request.cookies.get("visits", "0")) + 1
    response.set_cookie("visits", str(visits))
    return visits


@app.get("/pixel")
def pixel() -> Response:
    return Response(b"\x89PNG\r\n\x00", media_type="image/png")


handler = Mangum(app, lifespan="off")
