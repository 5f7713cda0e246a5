"""What each type of AWS::ApiGatewayV2 takes and gives; see ``schemas``.

Source: the resource schemas that CloudFormation publishes.
"""

from __future__ import annotations

from firelet.stacks.schemas import Schema, words

API = Schema(
    optional=words(
        "ApiKeySelectionExpression Body CorsConfiguration CredentialsArn Description"
        " DisableExecuteApiEndpoint DisableSchemaValidation FailOnWarnings IpAddressType Name"
        " ProtocolType RouteKey RouteSelectionExpression Tags Target Version"
    ),
    fixed=words("ProtocolType"),
    attributes=words("ApiEndpoint ApiId"),
)
STAGE = Schema(
    required=words("ApiId StageName"),
    optional=words(
        "AccessLogSettings AutoDeploy ClientCertificateId DefaultRouteSettings DeploymentId"
        " Description RouteSettings StageVariables Tags"
    ),
    fixed=words("ApiId StageName"),
)
ROUTE = Schema(
    required=words("ApiId RouteKey"),
    optional=words(
        "ApiKeyRequired AuthorizationScopes AuthorizationType AuthorizerId"
        " ModelSelectionExpression OperationName RouteResponseSelectionExpression Target"
    ),
    fixed=words("ApiId"),
    attributes=words("RouteId"),
)
INTEGRATION = Schema(
    required=words("ApiId IntegrationType"),
    optional=words(
        "ConnectionType ContentHandlingStrategy CredentialsArn Description IntegrationMethod"
        " IntegrationUri PassthroughBehavior PayloadFormatVersion TimeoutInMillis"
    ),
    fixed=words("ApiId"),
    attributes=words("IntegrationId"),
)
AUTHORIZER = Schema(
    required=words("ApiId AuthorizerType Name"),
    optional=words(
        "AuthorizerCredentialsArn AuthorizerPayloadFormatVersion AuthorizerResultTtlInSeconds"
        " AuthorizerUri EnableSimpleResponses IdentitySource JwtConfiguration"
    ),
    fixed=words("ApiId"),
    attributes=words("AuthorizerId"),
)
ROUTE_RESPONSE = Schema(
    required=words("ApiId RouteId RouteResponseKey"),
    optional=words("ModelSelectionExpression"),
    fixed=words("ApiId RouteId"),
    attributes=words("RouteResponseId"),
)
DEPLOYMENT = Schema(
    required=words("ApiId"),
    optional=words("Description StageName"),
    fixed=words("ApiId StageName"),
    attributes=words("DeploymentId"),
)
