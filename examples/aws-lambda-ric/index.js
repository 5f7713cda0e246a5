// A function behind AWS's own runtime client, unmodified. npm builds it from source.
//
//     npm install --omit=dev
//     firelet deploy . --name official --handler index.handler \
//         --env AWS_LAMBDA_EXEC_WRAPPER=/var/task/wrapper
"use strict";

exports.handler = async (event, context) => {
  console.log("behind aws-lambda-ric");
  return { event, request: context.awsRequestId };
};
