package firelet.runtime;

import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.util.ArrayList;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;

/** A property of a bean: a getter or setter, a component of a record, or a public field. */
final class Property {
  final String name;
  private final Method method;
  private final Field field;

  private Property(String name, Method method, Field field) {
    this.name = name;
    this.method = method;
    this.field = field;
  }

  Type type() {
    return field != null ? field.getGenericType() : method.getGenericParameterTypes()[0];
  }

  Object read(Object bean) throws ReflectiveOperationException {
    return field != null ? field.get(bean) : method.invoke(bean);
  }

  void write(Object bean, Object value) throws ReflectiveOperationException {
    if (field != null) {
      field.set(bean, value);
    } else {
      method.invoke(bean, value);
    }
  }

  /** What of a class goes into JSON, in the order of its members. */
  static Collection<Property> readable(Class<?> type) {
    Map<String, Property> found = new LinkedHashMap<>();
    for (Method component : recordAccessors(type)) {
      add(found, new Property(component.getName(), component, null));
    }
    for (Method method : type.getMethods()) {
      String name = getterName(method);
      if (name != null) {
        add(found, new Property(name, method, null));
      }
    }
    for (Field field : publicFields(type)) {
      add(found, new Property(field.getName(), null, field));
    }
    return found.values();
  }

  /** What of a class JSON can set, by lower-case name: AWS's events do not agree on case. */
  static Map<String, Property> writable(Class<?> type) {
    Map<String, Property> found = new LinkedHashMap<>();
    for (Method method : type.getMethods()) {
      boolean isSetter = method.getName().startsWith("set") && method.getName().length() > 3;
      if (isSetter && method.getParameterCount() == 1 && !method.isBridge() && isMember(method)) {
        String name = decapitalize(method.getName().substring(3));
        found.putIfAbsent(key(name), new Property(name, method, null));
      }
    }
    for (Field field : publicFields(type)) {
      if (!Modifier.isFinal(field.getModifiers())) {
        found.putIfAbsent(key(field.getName()), new Property(field.getName(), null, field));
      }
    }
    return found;
  }

  static String key(String name) {
    return name.toLowerCase(java.util.Locale.ROOT);
  }

  private static void add(Map<String, Property> found, Property property) {
    if (property.method != null) {
      property.method.setAccessible(true);
    }
    found.putIfAbsent(property.name, property);
  }

  private static String getterName(Method method) {
    boolean isGetter =
        method.getParameterCount() == 0
            && method.getReturnType() != void.class
            && method.getDeclaringClass() != Object.class
            && !method.isBridge()
            && isMember(method);
    String name = method.getName();
    if (isGetter && name.startsWith("get") && name.length() > 3) {
      return decapitalize(name.substring(3));
    }
    if (isGetter && name.startsWith("is") && name.length() > 2 && isBoolean(method)) {
      return decapitalize(name.substring(2));
    }
    return null;
  }

  private static boolean isBoolean(Method method) {
    return method.getReturnType() == boolean.class;
  }

  private static boolean isMember(Method method) {
    return !Modifier.isStatic(method.getModifiers());
  }

  /** By name, since records are younger than the oldest Java that this runs on. */
  private static Collection<Method> recordAccessors(Class<?> type) {
    Collection<Method> accessors = new ArrayList<>();
    if (isRecord(type)) {
      for (Field field : type.getDeclaredFields()) {
        if (!Modifier.isStatic(field.getModifiers())) {
          try {
            accessors.add(type.getDeclaredMethod(field.getName()));
          } catch (NoSuchMethodException error) {
            throw new IllegalArgumentException(type.getName() + " is no proper record", error);
          }
        }
      }
    }
    return accessors;
  }

  static boolean isRecord(Class<?> type) {
    Class<?> parent = type.getSuperclass();
    return parent != null && parent.getName().equals("java.lang.Record");
  }

  private static Collection<Field> publicFields(Class<?> type) {
    Collection<Field> fields = new ArrayList<>();
    for (Field field : type.getFields()) {
      int modifiers = field.getModifiers();
      if (!Modifier.isStatic(modifiers) && !Modifier.isTransient(modifiers)) {
        fields.add(field);
      }
    }
    return fields;
  }

  /** As Jackson does it: every capital at the start becomes small. */
  private static String decapitalize(String name) {
    int capitals = 0;
    while (capitals < name.length() && Character.isUpperCase(name.charAt(capitals))) {
      capitals++;
    }
    return name.substring(0, capitals).toLowerCase(java.util.Locale.ROOT)
        + name.substring(capitals);
  }
}
