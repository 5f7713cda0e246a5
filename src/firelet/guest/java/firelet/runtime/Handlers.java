package firelet.runtime;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** From {@code _HANDLER}, {@code Class} or {@code Class::method}, to something that can be called. */
final class Handlers {
  private Handlers() {}

  /** A handler between bytes and bytes. What it throws is the function's own. */
  interface Handler {
    byte[] handle(byte[] event, Context context) throws Throwable;
  }

  /** Of INIT: there is no such class or method, or its class cannot be made. */
  static final class NotFound extends Exception {
    private static final long serialVersionUID = 1;
    final String type;

    NotFound(String type, String message) {
      super(message);
      this.type = type;
    }
  }

  /** {@code Throwable}: the class's own initialisers run here. */
  static Handler find(String handler, ClassLoader loader) throws Throwable {
    int colons = handler.indexOf("::");
    String className = colons < 0 ? handler : handler.substring(0, colons);
    String methodName = colons < 0 ? null : handler.substring(colons + 2);
    Class<?> type;
    try {
      type = Class.forName(className, true, loader);
    } catch (ClassNotFoundException error) {
      throw new NotFound(ClassNotFoundException.class.getName(), "Class not found: " + className);
    }
    boolean isInterface = methodName == null || methodName.equals("handleRequest");
    if (isInterface && RequestStreamHandler.class.isAssignableFrom(type)) {
      RequestStreamHandler target = (RequestStreamHandler) create(type);
      return (event, context) -> {
        ByteArrayOutputStream output = new ByteArrayOutputStream();
        target.handleRequest(new ByteArrayInputStream(event), output, context);
        return output.toByteArray();
      };
    }
    if (methodName == null && !RequestHandler.class.isAssignableFrom(type)) {
      throw new NotFound(
          "java.lang.Exception",
          "Class " + className + " does not implement an appropriate handler interface");
    }
    Method method = choose(type, methodName == null ? "handleRequest" : methodName);
    Object target = Modifier.isStatic(method.getModifiers()) ? null : create(type);
    return isStream(method) ? streamHandler(method, target) : valueHandler(method, target);
  }

  /** Of methods of one name, the one with the most parameters that can be filled. */
  private static Method choose(Class<?> type, String name) throws NotFound {
    List<Method> fitting = new ArrayList<>();
    for (Method method : type.getMethods()) {
      if (method.getName().equals(name) && !method.isBridge() && fits(method)) {
        fitting.add(method);
      }
    }
    return fitting.stream()
        .max((a, b) -> Integer.compare(a.getParameterCount(), b.getParameterCount()))
        .orElseThrow(
            () ->
                new NotFound(
                    "java.lang.NoSuchMethodException",
                    "No public method named " + name
                        + " with appropriate method signature found on class " + type.getName()));
  }

  private static boolean fits(Method method) {
    Class<?>[] types = method.getParameterTypes();
    if (isStream(method)) {
      return types.length == 2 || (types.length == 3 && types[2] == Context.class);
    }
    return types.length <= 1 || (types.length == 2 && types[1] == Context.class);
  }

  private static boolean isStream(Method method) {
    Class<?>[] types = method.getParameterTypes();
    return types.length >= 2
        && types[0].isAssignableFrom(InputStream.class)
        && types[0] != Object.class
        && types[1].isAssignableFrom(OutputStream.class)
        && types[1] != Object.class;
  }

  private static Handler streamHandler(Method method, Object target) {
    method.setAccessible(true);
    return (event, context) -> {
      ByteArrayOutputStream output = new ByteArrayOutputStream();
      InputStream input = new ByteArrayInputStream(event);
      boolean takesContext = method.getParameterCount() == 3;
      call(
          method,
          target,
          takesContext ? new Object[] {input, output, context} : new Object[] {input, output});
      return output.toByteArray();
    };
  }

  private static Handler valueHandler(Method method, Object target) {
    method.setAccessible(true);
    Class<?>[] types = method.getParameterTypes();
    Type[] generic = Generics.parameterTypes(target == null ? null : target.getClass(), method);
    return (event, context) -> {
      Object[] arguments = new Object[types.length];
      for (int index = 0; index < types.length; index++) {
        boolean isContext = types[index] == Context.class;
        arguments[index] = isContext ? context : read(event, generic[index]);
      }
      Object result = call(method, target, arguments);
      return write(result);
    };
  }

  private static Object read(byte[] event, Type type) {
    try {
      return Binding.bind(Json.parse(new String(event, StandardCharsets.UTF_8)), type);
    } catch (IllegalArgumentException error) {
      throw new PayloadError("An error occurred during JSON parsing", error);
    }
  }

  private static byte[] write(Object result) {
    try {
      return Writer.toJson(result).getBytes(StandardCharsets.UTF_8);
    } catch (IllegalArgumentException | StackOverflowError error) {
      throw new PayloadError("An error occurred during JSON serialization of response", error);
    }
  }

  private static Object call(Method method, Object target, Object[] arguments) throws Throwable {
    try {
      return method.invoke(target, arguments);
    } catch (InvocationTargetException error) {
      throw error.getCause();
    }
  }

  private static Object create(Class<?> type) throws Throwable {
    try {
      return type.getConstructor().newInstance();
    } catch (NoSuchMethodException error) {
      throw new NotFound(
          "java.lang.Exception", "Class " + type.getName() + " has no public zero-argument constructor");
    } catch (InstantiationException | IllegalAccessException error) {
      throw new NotFound(
          "java.lang.Exception", "Class " + type.getName() + " cannot be instantiated");
    } catch (InvocationTargetException error) {
      throw error.getCause();
    }
  }

  /** AWS tells these as a RuntimeException. */
  static final class PayloadError extends RuntimeException {
    private static final long serialVersionUID = 1;

    PayloadError(String message, Throwable cause) {
      super(message, cause);
    }
  }
}
