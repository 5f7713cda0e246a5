package com.amazonaws.services.lambda.runtime;

/** The Cognito identity that called. */
public interface CognitoIdentity {
  String getIdentityId();

  String getIdentityPoolId();
}
