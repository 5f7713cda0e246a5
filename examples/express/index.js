// An Express application as a function: serverless-express translates between HTTP events and Node.
//
//     npm install --omit=dev
//     firelet deploy . --name shop --handler index.handler
"use strict";

const express = require("express");
const serverlessExpress = require("@codegenie/serverless-express");

const app = express();
app.use(express.json());

app.get("/hello/:name", (request, response) => {
  response.cookie("seen", "yes").json({ hello: request.params.name, query: request.query });
});

app.post("/sum", (request, response) => {
  response.status(201).json({ sum: request.body.numbers.reduce((a, b) => a + b, 0) });
});

app.get("/pixel", (request, response) => {
  response.type("png").send(Buffer.from([0x89, 0x50, 0x4e, 0x47, 0]));
});

// Express's own last answer waits for events of a socket, which a function does not have.
app.use((request, response) => {
  response.status(404).json({ message: `no ${request.path} here` });
});

exports.handler = serverlessExpress({ app, binarySettings: { contentTypes: ["image/*"] } });
