package firelet.runtime;

import com.amazonaws.services.lambda.crac.Core;
import com.amazonaws.services.lambda.runtime.LambdaRuntimeInternal;
import com.amazonaws.services.lambda.runtime.logging.LogLevel;
import java.io.File;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/** firelet's Java runtime client: loads the function, then serves one event after the other. */
public final class Bootstrap {
  private static final int EXIT_INIT = 1;
  private static final int EXIT_BROKEN = 2;
  private static final int EXIT_RESTORE = 64; // as the official client

  private Bootstrap() {}

  public static void main(String[] arguments) throws IOException {
    Map<String, String> environment = System.getenv();
    Log log = new Log(System.out, environment);
    LambdaRuntimeInternal.setLogger(log);
    try (RuntimeApi api = new RuntimeApi(environment.get("AWS_LAMBDA_RUNTIME_API"))) {
      Handlers.Handler handler = load(api, environment, log);
      if ("snap-start".equals(environment.get("AWS_LAMBDA_INITIALIZATION_TYPE"))) {
        rest(api, log);
      }
      serve(api, handler, environment, log);
    } catch (IOException error) {
      System.err.println(error.getMessage());
      System.exit(EXIT_BROKEN);
    }
  }

  private static Handlers.Handler load(
      RuntimeApi api, Map<String, String> environment, Log log) throws IOException {
    ClassLoader loader = functionLoader(environment.get("LAMBDA_TASK_ROOT"));
    Thread.currentThread().setContextClassLoader(loader);
    try {
      return Handlers.find(environment.get("_HANDLER"), loader);
    } catch (Throwable thrown) { // whatever the function's own initialisers throw
      Failure failure = tell(thrown, log);
      api.reportInitError(failure.json(), failure.type);
      System.exit(EXIT_INIT);
      throw new AssertionError("exit does not return");
    }
  }

  /** The restore point: hooks before it, and in each clone those after it. */
  private static void rest(RuntimeApi api, Log log) throws IOException {
    try {
      Core.getGlobalContext().beforeCheckpoint(null);
    } catch (Throwable thrown) { // the function's own, of any kind
      Failure failure = tell(thrown, log);
      api.reportInitError(failure.json(), failure.type);
      System.exit(EXIT_RESTORE);
    }
    api.restoreNext();
    try {
      Core.getGlobalContext().afterRestore(null);
    } catch (Throwable thrown) {
      Failure failure = tell(thrown, log);
      api.reportRestoreError(failure.json(), failure.type);
      System.exit(EXIT_RESTORE);
    }
  }

  private static Failure tell(Throwable thrown, Log log) {
    Failure failure = new Failure(thrown);
    log.log(failure.text(), LogLevel.FATAL);
    System.out.flush();
    return failure;
  }

  private static void serve(
      RuntimeApi api, Handlers.Handler handler, Map<String, String> environment, Log log)
      throws IOException {
    RuntimeApi.Answer event = api.next();
    while (true) {
      InvocationContext context = new InvocationContext(event.headers, environment);
      log.setRequestId(context.getAwsRequestId());
      String trace = context.getXrayTraceId();
      if (trace != null) {
        System.setProperty("com.amazonaws.xray.traceHeader", trace);
      }
      Failure failure = null;
      byte[] body;
      boolean isLast = false;
      try {
        body = handler.handle(event.body, context);
      } catch (Throwable thrown) { // the function's own, of any kind
        failure = new Failure(thrown);
        isLast = thrown instanceof OutOfMemoryError;
        log.log(failure.text(), LogLevel.ERROR);
        body = failure.json();
      }
      System.out.flush();
      System.err.flush();
      if (isLast) {
        api.reportLast(event, body, failure.type);
        System.exit(EXIT_INIT);
      }
      String outcome = failure == null ? "response" : "error";
      event = api.reportAndNext(event, outcome, body, failure == null ? null : failure.type);
    }
  }

  /** The class path as on AWS: the code, its lib folder, and the layers' /opt/java/lib. */
  private static ClassLoader functionLoader(String root) throws MalformedURLException {
    List<URL> urls = new ArrayList<>();
    urls.add(new File(root).toURI().toURL());
    for (String folder : new String[] {root + "/lib", "/opt/java/lib"}) {
      File[] jars = new File(folder).listFiles((directory, name) -> name.endsWith(".jar"));
      if (jars != null) {
        Arrays.sort(jars);
        for (File jar : jars) {
          urls.add(jar.toURI().toURL());
        }
      }
    }
    return new URLClassLoader(urls.toArray(new URL[0]), Bootstrap.class.getClassLoader());
  }
}
