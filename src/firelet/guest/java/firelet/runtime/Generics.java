package firelet.runtime;

import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.util.HashMap;
import java.util.Map;

/** The types of a method's parameters as a class sees them that inherits it. */
final class Generics {
  private Generics() {}

  static Type[] parameterTypes(Class<?> type, Method method) {
    Type[] declared = method.getGenericParameterTypes();
    Map<TypeVariable<?>, Type> known = new HashMap<>();
    collect(type, known);
    Type[] resolved = new Type[declared.length];
    for (int index = 0; index < declared.length; index++) {
      resolved[index] = resolve(declared[index], known);
    }
    return resolved;
  }

  /** What the type parameters of every ancestor stand for. */
  private static void collect(Type type, Map<TypeVariable<?>, Type> known) {
    if (type instanceof ParameterizedType) {
      ParameterizedType parameterized = (ParameterizedType) type;
      Class<?> raw = (Class<?>) parameterized.getRawType();
      Type[] arguments = parameterized.getActualTypeArguments();
      for (int index = 0; index < arguments.length; index++) {
        known.put(raw.getTypeParameters()[index], arguments[index]);
      }
      collect(raw, known);
    } else if (type instanceof Class) {
      Class<?> raw = (Class<?>) type;
      collect(raw.getGenericSuperclass(), known);
      for (Type parent : raw.getGenericInterfaces()) {
        collect(parent, known);
      }
    }
  }

  private static Type resolve(Type type, Map<TypeVariable<?>, Type> known) {
    Type found = type;
    while (found instanceof TypeVariable && known.containsKey(found)) {
      found = known.get(found);
    }
    return found;
  }
}
